"""Epochs of R runs in lockstep (a single run is R = 1); yields one record per run and epoch.

Runs of one stack share the step's shapes and structure, and may differ in data, seed, hyperparameters and steps per
epoch. Epochs are aligned: the runs are ordered by steps per epoch, and a step past a run's last one works on the runs
before it only, a view of the stack, so that an idle slot costs nothing.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unimos_pipe.base.config import MethodSpec
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures
from unimos_pipe.methods.unimos.draws import RunDraws, holdout_order
from unimos_pipe.methods.unimos.form import Coefficients, StepForm
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.objective import TERMS, terms_of
from unimos_pipe.methods.unimos.pseudo_labels import Assessment, assess
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING, batch_rows, learning_rate, steps_per_epoch
from unimos_pipe.methods.unimos.step import Batch, train_step
from unimos_pipe.methods.unimos.text import text_features

BLOCK = 16  # steps whose random draws are made and moved to the device together


@dataclass(frozen=True)
class TrainingRun:
    """One run to train: its data, method and random draws (from :func:`seeded_run`, or a recording)."""

    task: AdaptationTask
    method: MethodSpec
    draws: RunDraws
    batch: int
    steps: int  # per epoch
    held_source: LabelledFeatures | None = None  # source rows that training does not see

    @property
    def form(self) -> StepForm:
        """Runs of equal forms can be trained as one stack."""
        return StepForm.of(self.method, self.batch, *self.task.text_features.shape)


def seeded_run(task: AdaptationTask, method: MethodSpec, seed: int) -> TrainingRun:
    """A run whose every random choice follows from its seed."""
    held = None
    if rows := int(method.train.source_holdout * len(task.source.features)):
        order = holdout_order(seed, len(task.source.features)).to(task.source.labels.device)
        held, rest = (
            task.source.subset(part, f"{task.source.name}, {what}")
            for part, what in ((order[:rows], f"{rows} held out"), (order[rows:], f"without {rows} by seed {seed}"))
        )
        task = replace(task, source=rest)
    sizes = len(task.source.features), len(task.target.features)
    batch = batch_rows(*sizes, method.train.batch_size)
    steps = steps_per_epoch(*sizes, batch, method.train.max_steps)
    return TrainingRun(task, method, RunDraws(seed, *sizes, batch, task.source.origins), batch, steps, held)


@dataclass(frozen=True)
class EpochRecord:
    """What one run has to show after one epoch (or before training, epoch -1)."""

    run: int  # position in the sequence given to the trainer
    epoch: int
    losses: dict[str, float]  # mean over the epoch's steps, by term; empty before training
    train_weight: float | None  # mean learned w
    assessment: Assessment  # of the target rows it trains on
    heads: Heads  # in evaluation mode, as they are until the next epoch
    text: Tensor  # (K, D) text features that they answer with
    source_accuracy: float | None = None  # on held-out source rows, where there are any


class Trainer:
    """Trains runs of one form together."""

    def __init__(self, runs: Sequence[TrainingRun]):
        """All tensors of the runs' tasks must be on one device and of the training dtype."""
        forms = {run.form for run in runs}
        if len(forms) != 1:
            raise ValueError("runs of different shapes or structure cannot share a stack")
        (self.form,) = forms
        self.order = sorted(range(len(runs)), key=lambda index: -runs[index].steps)
        self.runs = [runs[index] for index in self.order]
        first = self.runs[0]
        text = first.task.text_features
        self.dtype, self.device = text.dtype, text.device
        starts = [run.draws.parameters(self.form.dim, self.form.classes, self.form.heads) for run in self.runs]
        self.heads = Heads.stack(
            starts,
            self.form.heads,
            self.dtype,
            self.device,
            self.form.momentum,
            torch.bfloat16 if self.form.precision == "bf16" else None,
        )
        self.coefficients = Coefficients.of([run.method for run in self.runs], self.dtype, self.device)
        self.text = torch.stack(text_features([run.task for run in self.runs], [run.method for run in self.runs]))
        self.failures: dict[int, str] = {}  # runs that diverged, by position in the sequence given
        self._build_tables()

    def _build_tables(self) -> None:
        """Put the rows of all domains one below the other, each domain once, so that a batch is one gather.

        Labels lie apart, run by run: a run's source labels and its own pseudo-labels, which no other run can reach.
        """
        domains: dict[str, Tensor] = {}
        for run in self.runs:
            for side in (run.task.source, run.task.target):
                known = domains.setdefault(side.name, side.features)
                if known is not side.features and not torch.equal(known, side.features):
                    raise ValueError(f"two domains of different rows are called {side.name!r}")
        starts = dict(zip(domains, _starts([len(rows) for rows in domains.values()]), strict=True))
        self.rows = torch.cat(list(domains.values()))
        self.source_start = torch.tensor([starts[run.task.source.name] for run in self.runs])
        self.target_start = torch.tensor([starts[run.task.target.name] for run in self.runs])
        self.source_labels = torch.cat([run.task.source.labels for run in self.runs])
        self.label_start = torch.tensor(_starts([len(run.task.source.labels) for run in self.runs]))
        targets = [len(run.task.target.features) for run in self.runs]
        self.pseudo_labels = torch.empty(sum(targets), dtype=torch.int64, device=self.device)
        self.pseudo_start = torch.tensor(_starts(targets))

    def train(self, after_epoch: int = BEFORE_TRAINING - 1) -> Iterator[tuple[int, Iterator[EpochRecord]]]:
        """Train to the last epoch; yields (epoch, its records), one record per run.

        The records must be consumed before the next epoch; they come one at a time, so that an assessment can be let
        go of. A run whose losses or predictions stop being finite goes to ``failures`` and has no further records; the
        others are not touched by it.

        Args:
            after_epoch: the last epoch already done, when going on from :meth:`load_state`.
        """
        if after_epoch < BEFORE_TRAINING:
            yield BEFORE_TRAINING, self._assess(BEFORE_TRAINING, None)
        for epoch in range(max(0, after_epoch + 1), self.runs[0].method.train.epochs):
            self._reset_weight_generators()
            yield epoch, self._assess(epoch, self._train_epoch(epoch))

    def full_state(self) -> dict[str, Tensor]:
        """Everything that training changes, random generators included, as tensors on the CPU."""
        state = {f"params.{name}": param for name, param in self.heads.params.items()}
        state |= {f"momentum.{name}": buffer for name, buffer in self.heads.momentum.items()}
        state |= {name: getattr(self.heads, name) for name in ("running_mean", "running_var", "label_prior")}
        state["pseudo_labels"] = self.pseudo_labels
        for index, run in enumerate(self.runs):
            state |= {f"draws.{index}.{name}": tensor for name, tensor in run.draws.state().items()}
        return {name: tensor.cpu() for name, tensor in state.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`full_state` gave for the same runs in the same order.

        Raises:
            ValueError: another stack's state; the trainer is then as it was.
        """
        for name, tensor in self.full_state().items():
            if name not in state or (not name.startswith("draws.") and state[name].shape != tensor.shape):
                raise ValueError(f"the checkpoint does not fit these runs: {name}")
        drawn = [run.draws.state() for run in self.runs]
        try:
            for index, run in enumerate(self.runs):
                prefix = f"draws.{index}."
                found = {k.removeprefix(prefix): v.cpu() for k, v in state.items() if k.startswith(prefix)}
                run.draws.load_state(found)
        except (RuntimeError, TypeError) as error:  # no state of a generator
            for run, known in zip(self.runs, drawn, strict=True):
                run.draws.load_state(known)
            raise ValueError(f"the checkpoint does not fit these runs: {error}") from None
        for name, param in self.heads.params.items():
            param.copy_(state[f"params.{name}"])
            self.heads.momentum[name].copy_(state[f"momentum.{name}"])
        for name in ("running_mean", "running_var", "label_prior"):
            getattr(self.heads, name).copy_(state[name])
        self.pseudo_labels.copy_(state["pseudo_labels"])

    def state(self, run: int) -> dict[str, Tensor]:
        """Weights, statistics and label prior of a run, by its position in the sequence given."""
        return self.heads.state(self.order.index(run))

    def model(self, run: int) -> dict[str, Tensor]:
        """:meth:`state` and the (K, D) ``text_features``: everything with which a run answers new rows."""
        return {**self.state(run), "text_features": self.text[self.order.index(run)].cpu().clone()}

    def eval_heads(self, run: int) -> Heads:
        """A run's modules in evaluation mode (R = 1), by its position in the sequence given."""
        position = self.order.index(run)
        return self.heads.runs(position, position + 1, training=False)

    @torch.no_grad()
    def _reset_weight_generators(self) -> None:
        for position, run in enumerate(self.runs):
            params = {name: param[position] for name, param in self.heads.params.items()}
            for name, fresh in run.draws.resets(params, run.method.train.reset_probability).items():
                params[name].copy_(fresh)

    def _train_epoch(self, epoch: int) -> Tensor:
        """One epoch of every run; returns (R, terms + 1) means of loss terms and w."""
        steps = torch.tensor([run.steps for run in self.runs])
        sums = torch.zeros(len(self.runs), len(TERMS) + 1, dtype=self.dtype, device=self.device)
        prefixes: dict[int, tuple[Heads, Coefficients]] = {}
        for start in range(0, self.runs[0].steps, BLOCK):
            block = self._draw(epoch, start)
            for offset, (rows, label_rows, pseudo_rows, keep, lr) in enumerate(block):
                active = int((steps > start + offset).sum())
                if active not in prefixes:
                    prefixes[active] = self.heads.runs(0, active), self.coefficients.runs(active)
                heads, coefficients = prefixes[active]
                batch = Batch(
                    self.rows.index_select(0, rows[:active].flatten()).unflatten(0, (active, -1)),
                    self.source_labels[label_rows[:active]],
                    self.pseudo_labels[pseudo_rows[:active]],
                    self.text[:active],
                    keep[:active],
                )
                sums[:active] += train_step(heads, batch, coefficients, self.form, lr[:active])
        return sums / steps.to(self.device).unsqueeze(-1)

    def _draw(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Rows (R, 2B), label and pseudo-label rows (R, B), dropout multipliers and learning rates of BLOCK steps.

        A run's own draws stop at its last step; the slots after it hold zeros that no step reads.
        """
        count = len(self.runs)
        steps = min(BLOCK, self.runs[0].steps - start)
        batch, heads = self.form.batch, self.form.heads
        rows = torch.zeros(steps, count, 2 * batch, dtype=torch.int64)
        labels, pseudo = torch.zeros(2, steps, count, batch, dtype=torch.int64)
        kept = torch.zeros(steps, count, 4 * batch, heads.discriminator_hidden, dtype=torch.bool)
        lr = torch.zeros(steps, count, dtype=torch.float64)
        for index, run in enumerate(self.runs):
            own = min(steps, run.steps - start)
            if own <= 0:
                break
            source, target = run.draws.batches(own)
            rows[:own, index, :batch] = source + self.source_start[index]
            rows[:own, index, batch:] = target + self.target_start[index]
            labels[:own, index] = source + self.label_start[index]
            pseudo[:own, index] = target + self.pseudo_start[index]
            kept[:own, index] = run.draws.kept(own, 4 * batch, kept.shape[-1], heads.discriminator_dropout)
            lr[:own, index] = torch.tensor(
                [learning_rate(epoch * run.steps + start + step, run.method.train) for step in range(own)],
                dtype=torch.float64,
            )
        rows, labels, pseudo, kept = (drawn.to(self.device) for drawn in (rows, labels, pseudo, kept))
        lr = lr.to(self.dtype).to(self.device)
        scale = 1 / (1 - round(256 * heads.discriminator_dropout) / 256)
        return zip(rows, labels, pseudo, (keep.to(self.dtype) * scale for keep in kept), lr, strict=True)

    def _assess(self, epoch: int, means: Tensor | None) -> Iterator[EpochRecord]:
        """Assess every run and take over its pseudo-labels, in the order in which the runs were given."""
        values = None if means is None else means.tolist()
        for index in range(len(self.runs)):
            if index in self.failures:
                continue
            position = self.order.index(index)
            run = self.runs[position]
            heads = self.eval_heads(index)
            text = self.text[position]
            found = assess(heads, run.task.target.features, text, epoch, run.method.eval)
            start = int(self.pseudo_start[position])
            self.pseudo_labels[start : start + len(found.pseudo_labels)] = found.pseudo_labels
            every = {} if values is None else dict(zip(TERMS, values[position], strict=False))
            losses = {term: every[term] for term in terms_of(run.method.loss) if every}
            if not (found.probabilities.isfinite().all() and all(map(math.isfinite, losses.values()))):
                self.failures[index] = (
                    f"training diverged in epoch {epoch}: losses or probabilities are not finite; try a lower train.lr"
                )
                continue
            weight = None if values is None else values[position][-1]
            source = self._source_accuracy(heads, text, run, epoch)
            yield EpochRecord(index, epoch, losses, weight, found, heads, text, source)

    def _source_accuracy(self, heads: Heads, text: Tensor, run: TrainingRun, epoch: int) -> float | None:
        """Accuracy of the ensemble on held-out source rows, by the rules of the target's evaluation."""
        if run.held_source is None:
            return None
        held = run.held_source
        found = assess(heads, held.features, text, epoch, run.method.eval)
        return float((found.predictions == held.labels).double().mean())


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each of several pieces begins when they lie one after the other."""
    return [0, *itertools.accumulate(lengths)][: len(lengths)]
