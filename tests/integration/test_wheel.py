"""The wheel, installed elsewhere, carries data sets and recipes, which are found by name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package from a freshly built wheel; the environment's own libraries serve it."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, PROJECT], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def unimos_pipe(installed: Path, folder: Path, *args: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed), "UNIMOS_CACHE": str(folder / "cache"), "COLUMNS": "100"}
    command = [sys.executable, "-P", "-m", "unimos_pipe", *args]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)


def test_data_sets_are_listed(installed, tmp_path):
    answer = unimos_pipe(installed, tmp_path, "manifest", "ls")
    assert answer.returncode == 0, answer.stderr
    names = [line.split("│")[1].strip() for line in answer.stdout.splitlines() if line.startswith("│")]
    icons = ["icons", "icons_third"]
    assert names == ["domainnet", *icons, "mini_domainnet", "office31", "office_home", "pacs", "visda2017"]


def test_its_types_are_public(installed):
    assert (installed / "unimos_pipe" / "py.typed").is_file()


def test_an_extra_is_installed_from_the_same_wheel(installed, tmp_path):
    code = "from unimos_pipe.base.optional_deps import install_command; print(install_command('report'))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    out = subprocess.check_output([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, text=True)
    start, wheel = out.split(" @ ")
    assert start == f"{sys.executable} -m pip install 'unimos-pipe[report]"
    assert re.fullmatch(r"file:///.*/unimos_pipe-\d+\.\d+\.\d+-py3-none-any\.whl'\n", wheel)


def test_recipes_are_found_by_name(installed, tmp_path):
    code = (
        "import unimos_pipe, unimos_pipe.runs.read_recipe as r; print(unimos_pipe.__file__); "
        "print(*sorted(r.known_recipes())); print(r.load_recipe('office_home_rn50')[0].published_table)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    out = subprocess.check_output([sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, text=True)
    place, names, paper = out.splitlines()
    assert place == str(installed / "unimos_pipe" / "__init__.py")
    assert set(names.split()) >= {
        *("office_home_rn50", "office_home_vitb16", "office_home_vitl14", "visda2017_rn101", "domainnet_vitb16"),
        *("mini_domainnet_rn50", "mini_domainnet_vitb16", "ablation_office_home_rn50", "ablation_visda2017_rn101"),
        *("sensitivity_office_home_rn50", "sensitivity_visda2017_rn101"),
    }
    assert paper == "office_home.RN50"


def test_a_recipe_runs_by_name_up_to_the_missing_images(installed, tmp_path):
    answer = unimos_pipe(installed, tmp_path, "run", "office_home_rn50")
    assert answer.returncode == 2
    assert answer.stderr.startswith(
        "Error: the images of office_home are missing: expected a folder ROOT that holds Art, Clipart, Product, Real "
        "World; images such as ROOT/Art/Drill/<image>, got no folder and no UNIMOS_DATA_ROOT. Get them from "
    )
