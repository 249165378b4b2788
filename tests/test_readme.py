"""Every command of the README runs: on miniature data, the small encoder in the place of large ones."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import draw

from unimos_pipe import config
from unimos_pipe.manifest import load_spec

README = Path(__file__).parent.parent / "README.md"
HEAVY = ("sweep icons_ablation",)  # planned only, unless --slow


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
    for domain in ("art", "clipart"):
        for label, name in enumerate(office.classes):
            for index in range(2):
                path = tmp_path / "OfficeHome" / office.domain(domain).folder[0] / name / f"{index}.png"
                draw(path, label % 3, rng, domain == "art")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, preset in config.ENCODERS.items():
        monkeypatch.setitem(config.ENCODERS, name, replace(config.ENCODERS["tiny"], precision=preset.precision))
    return tmp_path


def test_every_command_of_the_readme_runs(cli, home):
    found = commands()
    assert len(found) >= 6
    for line in found:
        words = [
            str(Path(word).expanduser()) if word.startswith("~") else word
            for word in shlex.split(line, comments=True)[1:]
        ]
        heavy = any(name in line for name in HEAVY) and "--dry-run" not in words
        answer = cli(*words, *(["--dry-run"] if heavy else []))
        assert answer.code == 0, f"{line}\n{answer.err}"


def test_the_scripts_of_the_readme_exist():
    for line in re.findall(r"^bash (\S+)", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert (README.parent / line).is_file(), line
    for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / link).exists(), link
