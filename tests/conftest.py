"""Fixtures shared by all tests: the command line in-process, miniature data sets, and features cached once."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # before torch loads OpenMP, as the command line has it

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from factories.figures import leave_out_figures
from factories.images import draw
from rounding import OtherRounding
from workspace import copy_workspace, live_in, prepare

from unimos_pipe.cli.main import main

SHARED = Path(__file__).parent.parent.parent / "shared"  # facts and recordings beside a developer's checkout, if any

TERMINATED = 143  # the exit code of a command after SIGTERM
THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))


LONGEST = (  # files that take long come first, so that both workers of ``pytest -n 2 --dist loadfile`` end together
    *("test_ray.py", "test_readme.py", "test_io_errors.py", "test_kill_and_full_disk.py", "test_parallel_stacks.py"),
    *("test_fuzz.py", "test_report.py", "test_benchmarks.py", "test_interrupts.py", "test_faults.py"),
    *("test_changed_code.py", "test_command_lines.py", "test_export.py", "test_wheel.py", "test_interleavings.py"),
    *("test_sweep.py", "test_api.py", "test_fork_pool.py", "test_office_home.py", "test_run_recorder.py"),
)


def pytest_configure(config):
    """Hand out files in the order of collection: pytest-xdist would begin with those of most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put the files of :data:`LONGEST` first."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As tests/run.sh has it: what is patched here is to be used in this process, and not in those of stacks.

    ``OMP_NUM_THREADS`` asks for more, for the numerical tests (tests/cpu_settings.py).
    """
    torch.set_num_threads(THREADS)


@pytest.fixture
def two_threads():
    """Two threads, so that stacks train side by side."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(THREADS)


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cli():
    """Run ``unimos-pipe`` in this process: ``cli("extract", "--all", ...) -> Answer``. A traceback fails the test.

    A SIGTERM, such as that of a time limit, ends the command and then the tests.
    """

    def run(*args: object) -> Answer:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Error: unexpected" not in result.stderr, result.stderr
        if result.exit_code == TERMINATED:
            pytest.exit("terminated", TERMINATED)
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def icons_cache(cli, tmp_path_factory) -> Path:
    """A cache that holds the embedded data set's features, made once; do not write to it."""
    cache = tmp_path_factory.mktemp("icons-cache")
    assert cli("extract", "--dataset", "icons", "--all", "--cache", cache).code == 0
    return cache


@dataclass(frozen=True)
class Miniature:
    """A drawn data set: its spec file and data root. Classes are circle, square and bar; domains dark and light."""

    spec: Path
    root: Path

    def args(self, cache: Path) -> tuple[object, ...]:
        """The options that name it."""
        return "--dataset", self.spec, "--cache", cache


@pytest.fixture
def miniature(tmp_path) -> Miniature:
    """A fresh miniature data set of 2 domains x 3 classes x 8 images."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for domain in ("dark", "light"):
        for label, name in enumerate(("circle", "square", "bar")):
            for index in range(8):
                draw(root / domain / name / f"{index}.png", label, rng, domain == "dark")
    spec = tmp_path / "mini.toml"
    spec.write_text(
        'name = "mini"\nclasses = ["circle", "square", "bar"]\nencoder = "tiny"\n[domains]\ndark = {}\nlight = {}\n'
    )
    return Miniature(spec, root)


@pytest.fixture
def no_figures(monkeypatch):
    """Reports of this process draw no figures."""
    leave_out_figures(monkeypatch)


@pytest.fixture(scope="session")
def prepared(cli, tmp_path_factory) -> Path:
    """The folder of tests/workspace.py with a cache, a run and an export; do not write to it."""
    return prepare(cli, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def lived_in(cli, prepared, tmp_path_factory) -> Path:
    """A copy of it in which every writing command has been; do not write to it."""
    folder = copy_workspace(prepared, tmp_path_factory.mktemp("lived-in") / "work")
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        return live_in(cli, folder)


@pytest.fixture
def work(lived_in, tmp_path) -> Path:
    """A copy of that, to write to."""
    return copy_workspace(lived_in, tmp_path / "work")


@pytest.fixture(scope="session", autouse="UNIMOS_TEST_ROUNDING" in os.environ)
def other_rounding():
    """Arithmetic as another CPU may round it, off by so many epsilons (tests/cpu_settings.py)."""
    with OtherRounding(float(os.environ["UNIMOS_TEST_ROUNDING"])):
        yield
