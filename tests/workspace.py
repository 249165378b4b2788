"""A folder with a data set, its cache, a run, an export, and things of the user's own: where trials begin."""

import os
from pathlib import Path

import numpy as np
from conftest import draw


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
    (folder / "precious.jpg").write_bytes(b"\xff\xd8\xff\xe0 a photo")
    (folder / "circle").symlink_to("circle")
    here = Path.cwd()
    os.chdir(folder)
    try:
        args = ("--dataset", "mini.toml", "--cache", "cache")
        assert cli("extract", *args, "--all", "--data-root", "images", "--workers", 0).code == 0
        assert cli("adapt", *args, "--src", "dark", "--tgt", "light", "--epochs", 1, "--out", "run").code == 0
        assert cli("export", "--run", "run", "--out", "model").code == 0
    finally:
        os.chdir(here)
    return folder


PRECIOUS = ("images", "mini.toml", "recipe.toml", "precious.jpg", "circle", "features.npy", "text.npy")
