"""What the READMEs say can be typed runs: on miniature data, the small encoder in the place of large ones."""

import functools
import re
import shlex
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from factories.images import draw

import unimos_pipe
from unimos_pipe import api
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.optional_deps import EXTRAS
from unimos_pipe.bench import adapt as bench
from unimos_pipe.cli.main import main
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.deploy import export
from unimos_pipe.runs.read_recipe import load_recipe

PROJECT = Path(__file__).parents[2]
READMES = [
    PROJECT / "README.md",
    *(
        file
        for folder in ("data_manifests", "pipelines", "unimos_pipe")
        for file in sorted((PROJECT / folder).rglob("*.md"))
    ),
]
SHORT_RECIPES = {  # in the place of the ones that take minutes or real data; every other one only has to be sound
    "icons_ablation": {"dataset": "icons", "pairs": ["line->color"], "variants": ["full", "no-im"]},
    "icons_methods": {"dataset": "icons", "pairs": ["line->color"], "methods": ["unimos", "fused"]},
    "office_home_rn50": {"dataset": "office_home", "pairs": ["art->clipart"]},
    "my_grid": {"dataset": "office_home", "pairs": ["art->clipart"], "methods": ["unimos", "fused"]},
}
QUICK = {  # added to, or instead of the same options of, commands that train or measure at full size, or ask
    "adapt": ("--epochs", "2", "--no-calibrate"),
    "bench extract": ("--images", "32", "--rounds", "1", "--baseline-images", "16"),
    "bench store": ("--rows", "2000", "--rounds", "1"),
    "bench adapt": ("--size", "icons"),
    "bench methods": ("--method", "zero-shot", "--pair", "line->color"),
    "cache prune": ("--yes",),
    "photos": ("--encoder", "tiny"),
}
SHORT = {
    '"train.epochs": 20': '"train.epochs": 1',
    "seeds=2": "seeds=1, options={'train': {'epochs': 1}}",
}  # in programs
INSTALLING = r"python3 -m venv \.venv|source \.venv/bin/activate|\.venv/bin/pip install (-e '\.\[(\w+)\]'|torch .*)"
LAST = "unimos-pipe cache prune"  # takes away what other commands need


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a file, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def lines(path: Path) -> list[str]:
    """Every line of a file's shell blocks, in order, continued lines joined, without comments."""
    text = "\n".join(blocks(path, "bash")).replace("\\\n", " ")
    return [shlex.join(words) for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def commands() -> list[str]:
    """Every command line of ours in any README, once, in order."""
    found = [line for path in READMES for line in lines(path) if line.startswith("unimos-pipe ")]
    return sorted(dict.fromkeys(found), key=lambda line: line.startswith(LAST))


def prose(path: Path) -> str:
    """A file without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def section(path: Path, heading: str) -> str:
    """What stands under a heading of the second rank."""
    return path.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.fixture
def home(tmp_path, monkeypatch, icons_cache, no_figures) -> Path:
    """A home folder with the images that the READMEs speak of, in miniature, and the icons' features."""
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
    for name in ("one.png", "two.png", "drawing.png"):
        draw(tmp_path / name, 0, rng, True)
    for name, table in SHORT_RECIPES.items():
        text = "".join(f"{key} = {value!r}\n" for key, value in {"name": name, "seeds": 1, **table}.items())
        (tmp_path / f"{name}.toml").write_text(f"{text}[options.train]\nepochs = 1\n")
    shutil.copytree(icons_cache, tmp_path / "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    demo = functools.partial(unimos_pipe.Recipe, pairs=("line->color",), options={"train": {"epochs": 1}})
    monkeypatch.setattr(api, "Recipe", demo)
    monkeypatch.setattr(export, "_write_onnx", lambda *_: 0.0)  # tests/deploy writes graphs, by the same command
    monkeypatch.setitem(bench.SIZES, "icons", bench.Size(64, 64, 16, 3))
    for name, preset in ENCODERS.items():
        monkeypatch.setitem(ENCODERS, name, replace(ENCODERS["tiny"], precision=preset.precision))
    return tmp_path


def run(cli, line: str) -> None:
    """Run a command line in a short form."""
    words = shlex.split(line)[1:]
    words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
    if words[0] in ("sweep", "run") and words[1] in SHORT_RECIPES:
        words[1] += ".toml"
    more = next((more for start, more in QUICK.items() if " ".join(words).startswith(start)), ())
    if "--method" in words:  # UniMoS alone is trained in epochs
        more = ("--no-calibrate",)
    for option in {*more} & {*words}:  # no command takes one twice
        del words[words.index(option) : words.index(option) + 2]
    answer = cli(*words, *more)
    assert answer.code == 0, f"{line}\n{answer.err}"


def run_programs(path: Path) -> None:
    """The programs of a file, one after the other in one namespace, as in a notebook."""
    names = {}
    for text in blocks(path, "python"):
        for long, short in SHORT.items():
            text = text.replace(long, short)
        exec(compile(text, path, "exec"), names)


def test_every_command_and_every_program_runs(cli, home):
    *found, last = commands()
    assert len(found) >= 30 and last.startswith(LAST)
    for line in found:
        run(cli, line)
    for path in READMES:
        if path.name == "README.md":
            run_programs(path)
    run(cli, last)


def test_every_other_line_installs_an_extra_or_is_a_script():
    for path in READMES:
        for line in lines(path):
            if line.startswith("unimos-pipe "):
                continue
            found = re.fullmatch(INSTALLING, line)
            assert found or (PROJECT / line.removeprefix("bash ")).is_file(), f"{path}: {line}"
        text = path.read_text(encoding="utf-8")
        assert {*re.findall(r"install -e '\.\[(\w+)\]'", text)} <= {*EXTRAS, "NAME"}
        for script in re.findall(r"`(?:bash|python) (\S+\.(?:sh|py))", text):
            assert (PROJECT / script).is_file(), f"{path}: {script}"


def test_commands_within_a_sentence_have_the_options_they_name():
    for path in READMES:
        for line in re.findall(r"`(unimos-pipe [^`]+)`", prose(path)):
            command, words = main, shlex.split(line)[1:]
            while isinstance(command, click.Group) and words and words[0] in command.commands:
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= known, f"{path}: {line}"
            assert not isinstance(command, click.Group) or not words, f"{path}: {line}"


def test_recipes_in_the_readmes_are_sound(tmp_path):
    for path in READMES:
        for text in blocks(path, "toml"):
            (tmp_path / "recipe.toml").write_text(text)
            assert load_recipe(str(tmp_path / "recipe.toml"))[0].name == tomllib.loads(text)["name"]


def headings(path: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_links_lead_somewhere():
    for path in READMES:
        for place, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose(path)):
            target = path.parent / place if place else path
            assert target.exists(), f"{path}: {place}"
            assert not anchor or anchor in headings(target), f"{path}: {place}#{anchor}"
        for picture in re.findall(r' src="([^"]+)"', prose(path)):
            assert (path.parent / picture).is_file(), f"{path}: {picture}"


def test_every_guarantee_names_tests_that_exist():
    table = (PROJECT / "unimos_pipe" / "GUARANTEES.md").read_text(encoding="utf-8")
    rows = [row.split("|")[-2] for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        *files, option, words = shlex.split(row)
        assert option == "-k"
        names = [re.findall(r"^def (test_\w+)", (PROJECT / "tests" / file).read_text(), re.MULTILINE) for file in files]
        for word in words.split(" or "):
            assert any(word in name for found in names for name in found), f"{row}: {word}"


def test_the_first_readme_is_short_and_so_is_each_door():
    first = PROJECT / "README.md"
    assert len(first.read_text(encoding="utf-8").splitlines()) < 280
    for door in ("You have photos", "You have a paper to write"):
        assert len(section(first, door).splitlines()) < 60
