"""Fixtures shared by all tests: the command line in-process, miniature data sets, and features cached once."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rounding import OtherRounding

from unimos_pipe.cli.main import main

SHARED = Path(__file__).parent.parent.parent / "shared"  # facts and recordings beside a developer's checkout, if any

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))


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
    """Run ``unimos-pipe`` in this process: ``cli("extract", "--all", ...) -> Answer``. A traceback fails the test."""

    def run(*args: object) -> Answer:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Error: unexpected" not in result.stderr, result.stderr
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


def draw(path: Path, shape: int, rng: np.random.Generator, dark: bool) -> None:
    """Write one 64 x 64 PNG of a shape (0 circle, 1 square, 2 bar) at a random place."""
    y, x = np.mgrid[:64, :64]
    cy, cx, size = *rng.integers(24, 40, 2), rng.integers(10, 18)
    inside = [
        (y - cy) ** 2 + (x - cx) ** 2 < size**2,
        np.maximum(abs(y - cy), abs(x - cx)) < size,
        (abs(y - cy) < 5) & (abs(x - cx) < 24),
    ][shape]
    pixels = np.where(inside[..., None], rng.integers(0, 90, 3), rng.integers(200, 255, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - pixels if dark else pixels).save(path)


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


@pytest.fixture(scope="session", autouse="UNIMOS_TEST_ROUNDING" in os.environ)
def other_rounding():
    """Arithmetic as another CPU may round it, off by so many epsilons (tests/cpu_settings.py)."""
    with OtherRounding(float(os.environ["UNIMOS_TEST_ROUNDING"])):
        yield
