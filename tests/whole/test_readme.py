"""Every command of the README runs: on miniature data, the small encoder in the place of large ones."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw

from unimos_pipe.base.encoders import ENCODERS
from unimos_pipe.data.manifest import load_spec

README = Path(__file__).parents[2] / "README.md"
SMALL_RECIPES = {  # in the place of the ones that take minutes or real data
    "icons_ablation": 'dataset = "icons"\npairs = ["line->color"]\nvariants = ["full", "no-im"]\n',
    "icons_methods": 'dataset = "icons"\npairs = ["line->color"]\nmethods = ["unimos", "fused", "auto"]\n',
    "office_home_rn50": 'dataset = "office_home"\npairs = ["art->clipart"]\n',
}


QUICK = {  # added to, or instead of the same options of, commands that measure at full size, or ask
    "bench extract": ("--images", "32", "--rounds", "1", "--plain", "16"),
    "bench store": ("--rows", "2000", "--rounds", "1"),
    "bench adapt": ("--size", "icons"),
    "cache prune": ("--yes",),
    "adapt --dataset mine.toml": ("--epochs", "2"),
}


def commands() -> list[str]:
    """Every unimos-pipe line of the README's shell blocks, in order, continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("unimos-pipe ")]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder with the images that the README speaks of, in miniature."""
    rng = np.random.default_rng(0)
    office = load_spec("office_home")
    for domain in office.domains:
        for label, name in enumerate(office.classes):
            for index in range(2 if domain in ("art", "clipart") else 1):
                path = tmp_path / "OfficeHome" / office.domain(domain).folder[0] / name / f"{index}.png"
                draw(path, label % 3, rng, domain == "art")
    for label, name in enumerate(("circle", "square", "bar")):
        for index in range(4):
            draw(tmp_path / "photos" / "shop" / name / f"{index}.png", label, rng, False)
            draw(tmp_path / "photos" / "DCIM" / f"{name}{index}.png", label, rng, True)
    for name, text in SMALL_RECIPES.items():
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nseeds = 1\n{text}[set.train]\nepochs = 2\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, preset in ENCODERS.items():
        monkeypatch.setitem(ENCODERS, name, replace(ENCODERS["tiny"], precision=preset.precision))
    return tmp_path


def test_every_command_of_the_readme_runs(cli, home):
    found = commands()
    assert len(found) >= 6
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
        if words[0] in ("sweep", "run"):
            words[1] += ".toml"
        more = next((more for start, more in QUICK.items() if " ".join(words).startswith(start)), ())
        for option in {*more} & {*words}:  # no command takes one twice
            del words[words.index(option) : words.index(option) + 2]
        answer = cli(*words, *more)
        assert answer.code == 0, f"{line}\n{answer.err}"


def test_the_scripts_of_the_readme_exist():
    for line in re.findall(r"^bash (\S+)", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert (README.parent / line).is_file(), line
    for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / link).exists(), link
