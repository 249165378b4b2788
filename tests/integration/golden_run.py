"""Recorded runs: reading one back as the draws of a run, and making the small one kept beside it.

``python tests/integration/golden_run.py`` writes it anew, through the code that replays the authors' run.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures
from unimos_pipe.methods.unimos import trainer as trainer_module
from unimos_pipe.methods.unimos.loss_terms import TERMS
from unimos_pipe.methods.unimos.random_streams import RandomStreams
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun

SMALL = Path(__file__).parent / "parity_small.npz"
LOSS_NAMES = {  # our term -> the recording's
    "lac": "txt_celoss",
    "vac": "vis_celoss",
    "im": "imloss",
    "ortho": "sep_loss",
    "bce_source": "discri_loss",
}
RESET_NAMES = {f"weight_{layer}.{kind}": f"{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")}
STATISTICS = ("bottleneck_bn.running_mean", "bottleneck_bn.running_var", "label_prior")


class Recording:
    """A file of the form of METHOD.md section 8."""

    def __init__(self, path: Path):
        with np.load(path) as file:
            self.arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "hyper_json"}
            self.hyper = json.loads(str(file["hyper_json"]))

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    def run(self, dtype: torch.dtype) -> TrainingRun:
        """The recorded run, ready to train."""
        h = self.hyper
        widths = {
            "heads.bottleneck_dim": len(self["initial/bottleneck_linear.bias"]),
            "heads.weight_hidden": len(self["initial/weight_fc1.bias"]),
            "heads.discriminator_hidden": len(self["initial/disc_fc1.bias"]),
        }
        settings = {
            "train.lr": h["lr"],
            "train.epochs": h["epochs"],
            "train.batch_size": h["batch_size"],
            "train.prior_momentum": h["label_prior_momentum"],
            "loss.alpha": h["alpha_source_lac"],
            "loss.beta": h["beta_source_vac"],
            "loss.gamma": h["gamma"],
            "eval.debias_tau": h["debias_tau"],
            "eval.w_start": h["w_start"],
            "eval.w_end": h["w_end"],
            "heads.temperature_scale": h["temperature_scale"],
            "heads.discriminator_dropout": h["discriminator_dropout"],
        }
        task = AdaptationTask(
            LabelledFeatures(self["source_features"].to(dtype), self["source_labels"]),
            UnlabelledFeatures(self["target_features"].to(dtype)),
            self["text_features"].to(dtype),
        )
        return TrainingRun(
            task, method_spec("full", settings | widths), RecordedDraws(self), h["batch_size"], h["steps_per_epoch"]
        )


class RecordedDraws:
    """A recording in the place of :class:`RandomStreams`."""

    def __init__(self, recording: Recording):
        self.recording, self.step, self.epoch = recording, 0, 0

    def draw_parameters(self, dim, classes, spec) -> dict[str, Tensor]:
        names = [name for name in self.recording.arrays if name.startswith("initial/")]
        params = {name.removeprefix("initial/"): self.recording[name] for name in names}
        return {name: t for name, t in params.items() if name not in STATISTICS and t.ndim}

    def next_batches(self, steps: int) -> tuple[Tensor, Tensor]:
        taken = slice(self.step, self.step + steps)
        self.step += steps
        return self.recording["source_batches"][taken], self.recording["target_batches"][taken]

    def draw_dropout_mask(self, steps: int, rows: int, width: int, dropout: float) -> Tensor:
        return torch.ones(steps, rows, width, dtype=torch.bool)

    def draw_resets(self, params, probability) -> dict[str, Tensor]:
        prefix = f"epoch{self.epoch}/weight_generator_after_reset"
        self.epoch += 1
        return {ours: self.recording[f"{prefix}.{theirs}"] for ours, theirs in RESET_NAMES.items()}


def step_values(monkeypatch) -> list[Tensor]:
    """A list that will hold what each training step of lone runs returns: (7,) loss terms and w."""
    values: list[Tensor] = []
    real = trainer_module.train_step

    def step(*args):
        found = real(*args)
        values.append(found[0])
        return found

    monkeypatch.setattr(trainer_module, "train_step", step)
    return values


class _LoggedDraws(RandomStreams):
    """Seeded draws that remember what was drawn."""

    def __init__(self, *args):
        super().__init__(*args)
        self.taken: list[tuple[Tensor, Tensor]] = []
        self.params: list[dict[str, Tensor]] = []

    def next_batches(self, steps):
        self.taken.append(super().next_batches(steps))
        return self.taken[-1]

    def draw_resets(self, params, probability):
        fresh = super().draw_resets(params, probability)
        self.params.append({name: fresh.get(name, params[name]).to(torch.float64).clone() for name in RESET_NAMES})
        return fresh


def record_small(path: Path) -> None:
    """Record a run of 3 epochs on made features: 5 classes, D = 16, 40 + 56 rows."""
    generator = torch.Generator().manual_seed(7)
    unit = torch.nn.functional.normalize
    centers = torch.randn(5, 16, generator=generator, dtype=torch.float64)
    labels = {side: torch.arange(rows) % 5 for side, rows in (("source", 40), ("target", 56))}
    noise = {side: torch.randn(len(y), 16, generator=generator, dtype=torch.float64) for side, y in labels.items()}
    features = {side: unit(centers[labels[side]] + 0.8 * noise[side], dim=-1) for side in labels}
    text = unit(centers + torch.randn(5, 16, generator=generator, dtype=torch.float64), dim=-1)
    settings = {
        "train.lr": 1e-3,
        "train.epochs": 3,
        "train.batch_size": 8,
        "heads.bottleneck_dim": 12,
        "heads.weight_hidden": 10,
        "heads.discriminator_hidden": 9,
        "heads.discriminator_dropout": 0.0,
    }
    task = AdaptationTask(
        LabelledFeatures(features["source"], labels["source"]), UnlabelledFeatures(features["target"]), text
    )
    draws = _LoggedDraws(11, 40, 56, 8)
    values: list[Tensor] = []
    real = trainer_module.train_step
    trainer_module.train_step = lambda *args: values.append(found := real(*args)) or found
    run = Trainer([TrainingRun(task, method_spec("full", settings), draws, 8, 5)])
    arrays = {f"initial/{name}": tensor for name, tensor in run.run_state(0).items()}
    arrays |= {"source_features": features["source"], "target_features": features["target"], "text_features": text}
    arrays |= {f"{side}_labels": y for side, y in labels.items()}
    for epoch, records in run.train():
        found = next(records).evaluation
        where = "eval_before_training" if epoch == BEFORE_TRAINING else f"epoch{epoch}/eval"
        arrays |= {
            f"{where}/ensemble_probs": found.probabilities,
            f"{where}/bottleneck": found.bottleneck,
            f"{where}/centroids": found.centroids,
            f"{where}/cluster_labels": found.cluster_labels,
            f"{where}/pseudo_labels_for_next_epoch": found.pseudo_labels,
        }
        if epoch > BEFORE_TRAINING:
            arrays |= {f"epoch{epoch}/after/{name}": tensor for name, tensor in run.run_state(0).items()}
            start = draws.params[epoch]
            arrays |= {f"epoch{epoch}/weight_generator_after_reset.{RESET_NAMES[n]}": start[n] for n in start}
    arrays |= {f"losses/{LOSS_NAMES[t]}": torch.stack(values)[:, 0, i] for i, t in enumerate(TERMS) if t in LOSS_NAMES}
    arrays |= {
        f"{s}_batches": torch.cat([taken[i] for taken in draws.taken]) for i, s in enumerate(("source", "target"))
    }
    hyper = {
        "lr": 1e-3,
        "batch_size": 8,
        "epochs": 3,
        "steps_per_epoch": 5,
        "alpha_source_lac": 1.0,
        "beta_source_vac": 1.0,
        "gamma": 0.01,
        "label_prior_momentum": 0.99,
        "debias_tau": 0.5,
        "temperature_scale": 100.0,
        "w_start": 0.8,
        "w_end": 0.3,
        "discriminator_dropout": 0.0,
    }
    np.savez_compressed(path, hyper_json=json.dumps(hyper), **{name: tensor.numpy() for name, tensor in arrays.items()})


if __name__ == "__main__":
    record_small(Path(sys.argv[1]) if len(sys.argv) > 1 else SMALL)
