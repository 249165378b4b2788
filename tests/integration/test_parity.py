"""The recorded behaviour of the authors' code, replayed through the very step and evaluation that adapt uses."""

import os

import pytest
import torch
from conftest import SHARED
from golden_run import LOSS_NAMES, SMALL, Recording, step_values

from unimos_pipe.methods.unimos.loss_terms import TERMS
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer

# METHOD.md section 8 sets the bounds: 1e-5 for a float64 replay, and 1e-4 for the first five float32 steps. Replays on
# inputs that are off by 4.5 epsilons spread by 1e-8 and 1e-5: 24 and 5 steps of that are 2e-7 and 5e-5.
pytestmark = pytest.mark.numerical
GOLDEN = os.environ.get("UNIMOS_PARITY_FILE") or SHARED / "golden" / "unimos_parity.npz"
NO_GRADIENT = "bottleneck_linear.bias"  # BatchNorm cancels its gradient: pure rounding on both sides


@pytest.fixture(params=["authors", "small"])
def recording(request) -> Recording:
    path = SMALL if request.param == "small" else GOLDEN
    try:
        return Recording(path)
    except FileNotFoundError:
        pytest.skip(f"no recording at {path}; set UNIMOS_PARITY_FILE")


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a part of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_float64_replay(recording, monkeypatch):
    steps = step_values(monkeypatch)
    trainer = Trainer([recording.run(torch.float64)])
    epochs = []
    for epoch, records in trainer.train():
        found = next(records).evaluation
        where = "eval_before_training" if epoch == BEFORE_TRAINING else f"epoch{epoch}/eval"
        assert relative(found.probabilities, recording[f"{where}/ensemble_probs"]) < 1e-5
        assert relative(found.bottleneck, recording[f"{where}/bottleneck"]) < 1e-5
        assert relative(found.centroids, recording[f"{where}/centroids"]) < 1e-5
        assert found.cluster_labels.equal(recording[f"{where}/cluster_labels"])
        assert found.pseudo_labels.equal(recording[f"{where}/pseudo_labels_for_next_epoch"])
        if f"{where}/accuracy" in recording.arrays:
            accuracy = (found.predictions == recording["target_labels"]).double().mean()
            assert float(accuracy) == pytest.approx(float(recording[f"{where}/accuracy"]), abs=1e-12)
        if epoch > BEFORE_TRAINING:
            for name, tensor in trainer.run_state(0).items():
                if name != NO_GRADIENT:
                    assert relative(tensor, recording[f"epoch{epoch}/after/{name}"]) < 1e-5, (epoch, name)
        epochs.append(epoch)
    assert epochs == list(range(-1, recording.hyper["epochs"]))
    found = torch.stack(steps)
    for term, name in LOSS_NAMES.items():
        wanted = recording[f"losses/{name}"]
        assert ((found[:, TERMS.index(term)] - wanted).abs() <= 1e-5 * wanted.abs() + 1e-12).all(), term


def test_float32_replay_of_the_first_steps(recording, monkeypatch):
    steps = step_values(monkeypatch)
    trainer = Trainer([recording.run(torch.float32)])
    epochs = trainer.train()
    for _ in range(2):
        list(next(epochs)[1])
    found = torch.stack(steps)[:5].double()
    for term, name in LOSS_NAMES.items():
        wanted = recording[f"losses/{name}"][:5]
        assert ((found[:, TERMS.index(term)] - wanted).abs() <= 1e-4 * wanted.abs()).all(), term
