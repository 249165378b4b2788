"""The README's first commands on a miniature Office-Home: default encoder, its weights downloaded from a hub."""

import json
import os
import subprocess
import sys

import numpy as np
from factories.hub import made_hub
from factories.images import draw

from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.extract.weights import EMBEDDED

COMMANDS = """
import sys
from pathlib import Path
import open_clip
from unimos_pipe.cli.main import main
open_clip.add_model_config(Path(sys.argv[1]))  # the preset's own name, a small model's shape
for command in (
    ["extract", "--domain", "art", "--data-root", sys.argv[2]],
    ["extract", "--domain", "clipart", "--data-root", sys.argv[2]],
    ["adapt", "--src", "art", "--tgt", "clipart", "--epochs", "2"],
):
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            raise
"""


def test_the_first_commands_download_their_weights_once(tmp_path):
    office, rng = load_spec("office_home"), np.random.default_rng(0)
    for domain in ("art", "clipart"):
        for label, name in enumerate(office.classes):
            draw(tmp_path / "images" / office.domain(domain).folder[0] / name / "0.png", label % 3, rng, False)
    config = json.loads((EMBEDDED / "tinyclip-r24-64.json").read_text())
    shape = tmp_path / "RN50-quickgelu.json"
    shape.write_text(json.dumps({**config, "quick_gelu": True}))
    with made_hub() as hub:
        weights = (EMBEDDED / "tinyclip-r24-64.safetensors").read_bytes()
        hub.add("timm/resnet50_clip.openai", "open_clip_model.safetensors", weights)
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "UNIMOS_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS, shape, tmp_path / "images"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **places, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        assert len([line for line in hub.asked if line.startswith("GET timm/")]) == 1
    assert "art -> clipart, full,epochs=2, seed 0 (transductive): accuracy UniMoS" in done.stdout
    (folder,) = (tmp_path / "cache" / "office_home").iterdir()
    assert folder.name.split("_")[:2] == ["RN50-quickgelu", "openai"]  # and a precision that suits the CPU
