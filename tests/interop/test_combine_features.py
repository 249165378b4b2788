"""Two encoders as one: rows of both, text of the first, zero-shot as the first alone answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.methods import zero_shot

CLASSES = ("cup", "bus", "cat")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def class_of(name: str) -> str:
    return name.partition("-")[2].removesuffix(".png")


class Work:
    """A cache with imported features of domains a and b: by CLIP (D = 8, text) and by DINO (D = 12, other order)."""

    def __init__(self, folder: Path):
        self.folder, self.cache, self.spec = folder, folder / "cache", str(folder / "own.toml")
        (folder / "classes.txt").write_text("\n".join(CLASSES))
        rng = np.random.default_rng(0)
        self.text = unit(rng.standard_normal((3, 8))).astype(np.float32)
        np.save(folder / "text.npy", self.text)
        self.rows: dict[tuple[str, str], np.ndarray] = {}
        self.names = [f"{row:02}-{CLASSES[row % 3]}.png" for row in range(30)]
        self.order = {"CLIP": np.arange(30), "DINO": rng.permutation(30)}
        for domain in "ab":
            for encoder, dim in (("CLIP", 8), ("DINO", 12)):
                self.rows[encoder, domain] = unit(rng.standard_normal((30, dim)))
                self.add(encoder, domain)

    def add(self, encoder: str, domain: str, paths: list[str] | None = None, labels: list[str] | None = None) -> None:
        names = paths or [self.names[row] for row in self.order[encoder]]
        labels = labels or [class_of(name) for name in names]
        lines = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
        (self.folder / "paths.csv").write_text("\n".join(["path,class", *lines]))
        file = self.folder / f"{encoder}-{domain}.npy"
        np.save(file, self.rows[encoder, domain][self.order[encoder]])
        options = unimos_pipe.ImportOptions(
            paths=(self.folder / "paths.csv",),
            classes=self.folder / "classes.txt",
            text=self.folder / "text.npy" if encoder == "CLIP" else None,
            force=True,
        )
        unimos_pipe.import_features([file], self.spec, domain, encoder, options, cache=self.cache)

    def combine(self, first: str = "CLIP", second: str = "DINO", name: str = "both", **options):
        return unimos_pipe.combine_features(self.spec, first, second, name, cache=self.cache, **options)

    def task(self, encoder: str):
        folder = next((self.cache / "own").glob(f"{encoder}_imported-*"))
        features = unimos_pipe.feature_set(self.spec, cache=self.cache, encoder_id=folder.name)
        return unimos_pipe.make_task(features, "a", "b").loader.pair("a", "b").task


@pytest.fixture
def work(tmp_path) -> Work:
    return Work(tmp_path)


def test_rows_are_of_both_and_zero_shot_is_that_of_the_first(work):
    combined = work.combine()
    assert (combined.rows, combined.dim, combined.has_text) == ({"a": 30, "b": 30}, 20, True)
    task, alone = work.task("both"), work.task("CLIP")
    expected = np.concatenate([work.rows["CLIP", "b"], work.rows["DINO", "b"]], 1) / np.sqrt(2)
    # two roundings to float16 of values below 1/sqrt(2), each of at most 2^-12
    assert np.abs(task.target.features.numpy() - expected).max() < 2**-11
    assert torch.equal(task.source.labels, alone.source.labels)
    assert torch.equal(task.text_features[:, 8:], torch.zeros(3, 12))
    logits, first = (zero_shot.build_classifier(one).logits(one.target.features) for one in (task, alone))
    # 100 times a cosine of rows rounded once more: 100 x sqrt(2) x 8 values x 2^-12 x 1 at most
    assert (logits - first).abs().max() < 0.3 and torch.equal(logits.argmax(-1), first.argmax(-1))


def test_the_same_again_is_kept_and_others_need_force(work):
    work.combine()
    work.combine()
    work.rows["DINO", "b"] = work.rows["DINO", "b"][::-1]
    work.add("DINO", "b")
    with pytest.raises(InputError, match=r"^own/b by 'both' is in .* with other rows; add force=True to replace it$"):
        work.combine()
    work.combine(force=True)
    assert np.abs(work.task("both").target.features[:, 8:].numpy() * np.sqrt(2) - work.rows["DINO", "b"]).max() < 2**-10


def test_encoders_that_cannot_be_combined(work):
    def refusal(*names: str) -> str:
        with pytest.raises(InputError) as caught:
            work.combine(*names)
        return str(caught.value)

    clip, dino = (next((work.cache / "own").glob(f"{name}*")).name for name in ("CLIP", "DINO"))
    assert refusal("DINO", "CLIP") == f"{dino} has no text features, {clip} has. Name the latter first"
    assert refusal("CLIP", "D0") == (
        f"encoder 'D0' of own in {work.cache}: expected an encoder-id, or the beginning of one alone, "
        f"got 0 of {clip}, {dino}"
    )
    assert refusal("CLIP", "DINO", "two\nlines").startswith("encoder_name: expected a text of 1 to 200 characters")
    names = [work.names[row] for row in work.order["DINO"]]
    work.add("DINO", "a", labels=["cat" if name == "00-cup.png" else class_of(name) for name in names])
    assert refusal() == "the two encoders' images of a: expected the same labels, got another for 00-cup.png"
    work.add("DINO", "a", paths=["new-cup.png" if name == "00-cup.png" else name for name in names])
    assert refusal() == (
        "the two encoders' images of a: expected the same paths, got 2 that only one has: 00-cup.png, new-cup.png"
    )
    assert not list((work.cache / "own").glob("both*"))


def test_the_command_and_what_it_suggests(work, cli):
    own = ("--dataset", work.spec, "--cache", work.cache)
    answer = cli("cache", "combine", "CLIP", "DINO", *own, "--as", "both")
    assert (answer.code, answer.out) == (0, "own by both: a 30 rows, b 30 rows, D = 20\n")
    folder = next((work.cache / "own").glob("both*")).name
    assert f"adapt --src a --tgt b --encoder-id {folder} --dataset" in answer.err
    adapt = ("adapt", *own, "--src", "a", "--tgt", "b", "--encoder-id", folder, "--method", "auto", "--out")
    assert cli(*adapt, work.folder / "run").code == 0
    predict = cli("predict", "--run", work.folder / "run", "--domain", "b", "-o", work.folder / "p.csv", *own)
    assert predict.code == 0
