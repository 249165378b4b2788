"""A folder with a data set, its cache, a run, an export, and things of the user's own: where trials begin."""

import contextlib
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
from factories.images import draw
from file_tree import tree
from fork_server import Ended

import unimos_pipe
from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.runs.read_run import read_run

PRECIOUS = ("images", "mini.toml", "recipe.toml", "precious.jpg", "circle", "features.npy", "text.npy")

DATA = ["--dataset", "mini.toml", "--cache", "cache", "--encoder", "tiny"]
FORCED = {  # each makes anew what is there
    "export": ["export", "--run", "other", "--out", "model", "--force"],
    "adapt": ["adapt", *DATA, "--src", "dark", "--tgt", "light", "--epochs", "2", "--out", "run", "--force"],
    "extract": ["extract", *DATA, "--domain", "light", "--data-root", "images", "--workers", "0", "--shard-size", "2",
                "--force"],
}  # fmt: skip
WRITERS = {
    **FORCED,
    "sweep": ["sweep", "recipe.toml", "--stack-size", "1", "--cache", "cache", "--runs", "runs", "--force"],
    "run": ["run", "recipe.toml", "--cache", "cache", "--runs", "runs", "--data-root", "images", "--workers", "0"],
    "report": ["report", "run", "--out", "report", "--cache", "cache"],
    "predict": ["predict", "--run", "other", "--images", "images/light", "-o", "answers.csv", "--workers", "0"],
    "scan": ["manifest", "scan", "--domain", "a=images/dark", "--domain", "b=images/light", "-o", "own.toml",
             "--force"],
    "import": ["cache", "import", "features.npy", "--dataset", "mini.toml", "--domain", "light", "--text", "text.npy",
               "--encoder-name", "theirs", "--cache", "cache", "--force"],
    "hand out": ["cache", "export", "--dataset", "mini.toml", "--encoder", "tiny", "--all", "--cache", "cache", "-o",
                 "features"],
    "method": ["adapt", *DATA, "--src", "dark", "--tgt", "light", "--method", "fused", "--out",
               "quick", "--force"],
    "prune": ["cache", "prune", "--cache", "cache", "--runs", "runs", "--yes"],
}  # fmt: skip


def prepare(cli, folder: Path) -> Path:
    """Fill an empty folder; see :data:`PRECIOUS` for what is nobody's output."""
    rng = np.random.default_rng(0)
    for domain in ("dark", "light"):
        for label, name in enumerate(("circle", "square", "bar")):
            for index in range(3):
                draw(folder / "images" / domain / name / f"{index}.png", label, rng, domain == "dark")
    (folder / "mini.toml").write_text(
        'name = "mini"\nclasses = ["circle", "square", "bar"]\nencoder = "tiny"\n[domains]\ndark = {}\nlight = {}\n'
    )
    (folder / "recipe.toml").write_text(
        f'name = "r"\ndataset = {str(folder / "mini.toml")!r}\nseeds = 1\n[options.train]\nepochs = 1\n'
    )
    for name, rows in (("features", 9), ("text", 3)):
        np.save(folder / f"{name}.npy", rng.normal(size=(rows, 16)).astype(np.float32))
    with tarfile.open(folder / "shard.tar", "w") as shard:
        shard.add(folder / "images" / "dark" / "bar" / "0.png", "0.png")
    (folder / "precious.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo")
    (folder / "circle").symlink_to("circle")
    with contextlib.chdir(folder):
        args = ("--dataset", "mini.toml", "--cache", "cache")
        assert cli("extract", *args, "--all", "--data-root", "images", "--workers", 0).code == 0
        assert cli("adapt", *args, "--src", "dark", "--tgt", "light", "--epochs", 1, "--out", "run").code == 0
        assert cli("export", "--run", "run", "--out", "model").code == 0
    return folder


def live_in(cli, folder: Path) -> Path:
    """Run every writing command once in a prepared folder."""
    adapt = ["other" if word == "run" else word for word in FORCED["adapt"]]
    names = ("sweep", "report", "scan", "predict", "method", "hand out", "import")
    with contextlib.chdir(folder):
        for words in (adapt, *(WRITERS[name] for name in names)):
            answer = cli(*(word for word in words if word != "--force"))
            assert answer.code == 0, answer.err
    return folder


def copy_workspace(folder: Path, to: Path) -> Path:
    """Copy the folder; the recipe in it names the copy."""
    shutil.copytree(folder, to, symlinks=True)
    recipe = to / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(folder), str(to)))
    return to


class Wholeness:
    """What must hold of a folder whatever happened in it: each thing is one of those that were seen whole."""

    def __init__(self, work: Path):
        self.work = work
        self.precious = self._precious()
        self.known: dict[str, set[str]] = {}
        self.take()

    def take(self) -> None:
        """The things as they are now are whole."""
        for name, state in self._states().items():
            self.known.setdefault(name, set()).add(state)

    def faults(self) -> list[str]:
        """What is lost, broken or a mixture."""
        try:
            states = self._states()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
        faults = [f"{name}: neither old nor new" for name, state in states.items() if state not in self.known[name]]
        return faults + (["precious things changed"] if self._precious() != self.precious else [])

    def _states(self) -> dict[str, str]:
        work = self.work
        model = unimos_pipe.load(work / "model")
        heads = {name: tensor.double().sum().item() for name, tensor in sorted(model.fitted.state_dict().items())}
        page = (work / "report" / "report.html").read_text()
        assert page.rstrip().endswith("</html>")
        sweep = {
            str(run.relative_to(work)): read_run(run).identity for run in sorted((work / "runs" / "r").rglob("seed0"))
        }
        return {
            "features": self._features(),
            "run": read_run(work / "run").identity,
            "quick": read_run(work / "quick").identity,
            "handed out": " ".join(sorted(path.name for path in (work / "features").iterdir())),
            "model": json.dumps(heads),
            "answers.csv": (work / "answers.csv").read_text(),
            "own.toml": load_spec(str(work / "own.toml")).name,
            "report": " ".join(sorted(path.name for path in (work / "report").rglob("*"))),
            "runs": json.dumps(sweep),
        }

    def _features(self) -> str:
        store = FeatureStore(
            load_spec(str(self.work / "mini.toml")),
            next((self.work / "cache" / "mini").glob("tiny*")),
            extract_call("mini"),
        )
        parts = [store.domain(name).features for name in ("dark", "light")]
        return hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest()

    def _precious(self) -> dict[str, str]:
        return {name: kind for name, kind in tree(self.work).items() if name.split("/")[0] in PRECIOUS}


def check(answer: Ended, codes: tuple[int, ...]) -> None:
    """The exit code is one of these, and an error is one line."""
    assert answer.code in codes, (answer.code, answer.err[-500:])
    assert "Traceback" not in answer.err and "Error: unexpected" not in answer.err, answer.err
    if answer.code:
        assert answer.err.splitlines()[-1].startswith("Error: "), answer.err


def leftovers(work: Path) -> list[str]:
    """Files and folders that only a writer at work may have."""
    return [name for name in tree(work) if Path(name).name.startswith(".unimos-") or name.endswith((".part", ".old"))]
