"""Epochs of R runs in lockstep (a single run is R = 1); yields one record per run and epoch.

Runs of one stack share the step's shapes and structure, and may differ in data, seed, hyperparameters and steps per
epoch. Epochs are aligned: the runs are ordered by steps per epoch, and a step past a run's last one works on the runs
before it only, a view of the stack, so that an idle slot costs nothing.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.base.device import HOST, gather_to_cpu
from unimos_pipe.base.malloc import tune_malloc
from unimos_pipe.methods.unimos.cuda_graphs import CudaGraphSteps
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.loss_terms import TERMS, terms_of
from unimos_pipe.methods.unimos.pseudo_labels import TargetEvaluation, evaluate_target
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.stack_key import Coefficients
from unimos_pipe.methods.unimos.step import Batch, train_step
from unimos_pipe.methods.unimos.step_inputs import BLOCK, StepInputs, StepInputSampler, TableOffsets
from unimos_pipe.methods.unimos.text_features import text_features
from unimos_pipe.methods.unimos.training_run import TrainingRun


@dataclass(frozen=True)
class EpochSnapshot:
    """State of a run after an epoch, or before training (epoch -1)."""

    run: int  # position in the sequence given to the trainer
    evaluation: TargetEvaluation  # of the target rows it trains on
    heads: Heads  # in evaluation mode, as they are until the next epoch
    text: Tensor  # (K, D) text features of the run
    held_out: TargetEvaluation | None  # of the held-out source rows, where there are any


@dataclass(frozen=True)
class EpochRecord(EpochSnapshot):
    """Measurements of one run after an epoch, or before training."""

    losses: dict[str, float]  # mean over the epoch's steps, by term; empty before training
    train_weight: float | None  # mean learned w
    source_accuracy: float | None  # on held-out source rows, where there are any
    measured: Mapping[str, Tensor]  # what the caller's own measure gave, on the CPU


Measure = Callable[[EpochSnapshot], Mapping[str, Tensor]]


def no_measure(snapshot: EpochSnapshot) -> Mapping[str, Tensor]:
    """Return no additional measurements."""
    return {}


class Trainer:
    """Trains runs with equal stack keys together."""

    def __init__(self, runs: Sequence[TrainingRun], *, use_cuda_graphs: bool = True):
        """All tensors of the runs' tasks must be on one device and of the training dtype.

        Args:
            use_cuda_graphs: on CUDA, run steps as CUDA graphs.
        """
        forms = {run.stack_key for run in runs}
        if len(forms) != 1:
            raise ValueError("runs of different shapes or structure cannot share a stack")
        (self.stack_key,) = forms
        self.order = sorted(range(len(runs)), key=lambda index: -runs[index].steps)
        self.runs = [runs[index] for index in self.order]
        first = self.runs[0]
        text = first.task.text_features
        self.dtype, self.device = text.dtype, text.device
        if self.device.type == HOST:
            tune_malloc()
        starts = [
            run.random_streams.draw_parameters(self.stack_key.dim, self.stack_key.classes, self.stack_key.heads)
            for run in self.runs
        ]
        self.heads = Heads.stack(
            starts,
            self.stack_key.heads,
            self.dtype,
            self.device,
            self.stack_key.momentum,
            torch.bfloat16 if self.stack_key.precision == "bf16" else None,
        )
        self.coefficients = Coefficients.create([run.method for run in self.runs], self.dtype, self.device)
        self.text = torch.stack(text_features([run.task for run in self.runs], [run.method for run in self.runs]))
        self.failures: dict[int, str] = {}  # runs that diverged, by position in the sequence given
        self._build_tables()
        self.sampler = StepInputSampler(self.runs, self.stack_key, self.offsets, self.dtype, self.device)
        self.sums = torch.zeros(len(runs), len(TERMS) + 1, dtype=self.dtype, device=self.device)
        self.steps = torch.tensor([[run.steps] for run in self.runs], device=self.device)
        self.prefixes: dict[int, tuple[Heads, Coefficients]] = {}
        self.cuda_graphs = (
            CudaGraphSteps(self.sampler.block, self._step) if use_cuda_graphs and self.device.type == "cuda" else None
        )

    def _build_tables(self) -> None:
        """Concatenate the rows of all domains, each domain once, so that a batch is one gather.

        Labels are stored run by run: a run's source labels and pseudo-labels, which no other run can read.
        """
        domains: dict[str, Tensor] = {}
        for run in self.runs:
            for side in (run.task.source, run.task.target):
                features = domains.setdefault(side.name, side.features)
                if features is not side.features and not torch.equal(features, side.features):
                    raise ValueError(f"two domains of different rows are called {side.name!r}")
        starts = dict(zip(domains, _offsets([len(rows) for rows in domains.values()]), strict=True))
        self.rows = torch.cat(list(domains.values()))
        self.source_labels = torch.cat([run.task.source.labels for run in self.runs])
        targets = [len(run.task.target.features) for run in self.runs]
        self.pseudo_labels = torch.empty(sum(targets), dtype=torch.int64, device=self.device)
        self.offsets = TableOffsets(
            [starts[run.task.source.name] for run in self.runs],
            [starts[run.task.target.name] for run in self.runs],
            _offsets([len(run.task.source.labels) for run in self.runs]),
            _offsets(targets),
        )

    def train(
        self, after_epoch: int = BEFORE_TRAINING - 1, measure: Measure = no_measure
    ) -> Iterator[tuple[int, Iterator[EpochRecord]]]:
        """Train to the last epoch; yields (epoch, its records), one record per run.

        The records must be consumed before the next epoch. On the CPU they are computed one at a time, so that each
        evaluation can be freed; on CUDA a stack is evaluated as a whole, and one copy brings its metrics to the CPU. A
        run whose losses or predictions are not finite is added to ``failures`` and has no further records; the other
        runs are not affected.

        Args:
            after_epoch: the last completed epoch, when resuming from :meth:`load_state_dict`.
            measure: returns small tensors that join a run's record.
        """
        if after_epoch < BEFORE_TRAINING:
            yield BEFORE_TRAINING, self._evaluate_runs(BEFORE_TRAINING, None, measure)
        for epoch in range(max(0, after_epoch + 1), self.runs[0].method.train.epochs):
            self._reset_weight_generators()
            yield epoch, self._evaluate_runs(epoch, self._train_epoch(epoch), measure)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that training changes, including random generators, as tensors on the CPU."""
        state = {f"params.{name}": param for name, param in self.heads.params.items()}
        state |= {f"momentum.{name}": buffer for name, buffer in self.heads.momentum.items()}
        state |= {name: getattr(self.heads, name) for name in ("running_mean", "running_var", "label_prior")}
        state["pseudo_labels"] = self.pseudo_labels
        for index, run in enumerate(self.runs):
            state |= {f"draws.{index}.{name}": tensor for name, tensor in run.random_streams.state_dict().items()}
        return {name: tensor.cpu() for name, tensor in state.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict` for the same runs in the same order.

        Raises:
            ValueError: the state of another stack; the trainer is unchanged then.
        """
        for name, tensor in self.state_dict().items():
            if name not in state or (not name.startswith("draws.") and state[name].shape != tensor.shape):
                raise ValueError(f"the checkpoint does not fit these runs: {name}")
        previous_states = [run.random_streams.state_dict() for run in self.runs]
        try:
            for index, run in enumerate(self.runs):
                prefix = f"draws.{index}."
                stream_state = {k.removeprefix(prefix): v.cpu() for k, v in state.items() if k.startswith(prefix)}
                run.random_streams.load_state_dict(stream_state)
        except (RuntimeError, TypeError) as error:  # no state of a generator
            for run, previous_state in zip(self.runs, previous_states, strict=True):
                run.random_streams.load_state_dict(previous_state)
            raise ValueError(f"the checkpoint does not fit these runs: {error}") from None
        for name, param in self.heads.params.items():
            param.copy_(state[f"params.{name}"])
            self.heads.momentum[name].copy_(state[f"momentum.{name}"])
        self.heads.refresh_copies()
        for name in ("running_mean", "running_var", "label_prior"):
            getattr(self.heads, name).copy_(state[name])
        self.pseudo_labels.copy_(state["pseudo_labels"])

    def run_state(self, run: int) -> dict[str, Tensor]:
        """Return weights, statistics and label prior of a run, by its position in the sequence given."""
        return self.heads.run_state(self.order.index(run))

    def model_state(self, run: int) -> dict[str, Tensor]:
        """Return :meth:`run_state` and the (K, D) ``text_features``: all that is needed to predict new rows."""
        return {**self.run_state(run), "text_features": self.text[self.order.index(run)].cpu().clone()}

    def eval_heads(self, run: int) -> Heads:
        """Return a run's modules in evaluation mode (R = 1), by its position in the sequence given."""
        position = self.order.index(run)
        return self.heads.runs(position, position + 1, training=False)

    @torch.no_grad()
    def _reset_weight_generators(self) -> None:
        for position, run in enumerate(self.runs):
            params = {name: param[position] for name, param in self.heads.params.items()}
            for name, fresh in run.random_streams.draw_resets(params, run.method.train.reset_probability).items():
                params[name].copy_(fresh)
        self.heads.refresh_copies()

    def _train_epoch(self, epoch: int) -> Tensor:
        """Train one epoch of every run; return (R, terms + 1) means of loss terms and w."""
        self.sums.zero_()
        take_step = self.cuda_graphs or (lambda active, position: self._step(active, self.sampler.block.step(position)))
        for start in range(0, self.runs[0].steps, BLOCK):
            self.sampler.sample(epoch, start)
            for position in range(min(BLOCK, self.runs[0].steps - start)):
                take_step(sum(run.steps > start + position for run in self.runs), position)
        return self.sums / self.steps

    def _step(self, active: int, inputs: StepInputs) -> None:
        """Run one step of the first ``active`` runs."""
        if active not in self.prefixes:
            self.prefixes[active] = self.heads.runs(0, active), self.coefficients.runs(active)
        heads, coefficients = self.prefixes[active]
        inputs = inputs.runs(active)
        batch = Batch(
            self.rows.index_select(0, inputs.rows.flatten()).unflatten(0, (active, -1)),
            self.source_labels[inputs.labels],
            self.pseudo_labels[inputs.pseudo],
            self.text[:active],
            inputs.dropout_mask.view(torch.uint8).to(self.dtype),  # bytes become floats six times as fast as booleans
        )
        self.sums[:active] += train_step(heads, batch, coefficients, self.stack_key, inputs.lr)

    def _evaluate_runs(self, epoch: int, means: Tensor | None, measure: Measure) -> Iterator[EpochRecord]:
        """Evaluate every run and update its pseudo-labels, in the order in which the runs were given."""
        active = [index for index in range(len(self.runs)) if index not in self.failures]
        runs_at_once = max(1, len(active)) if self.device.type == "cuda" else 1
        for start in range(0, len(active), runs_at_once):
            snapshots = [self._evaluate_run(index, epoch) for index in active[start : start + runs_at_once]]
            metrics = [self._measure_run(snapshot, means) for snapshot in snapshots]
            on_cpu = gather_to_cpu([*metrics, *(measure(snapshot) for snapshot in snapshots)])
            count = len(snapshots)
            for snapshot, run_metrics, measured in zip(snapshots, on_cpu[:count], on_cpu[count:], strict=True):
                if record := self._create_record(snapshot, run_metrics, measured):
                    yield record

    def _evaluate_run(self, index: int, epoch: int) -> "EpochSnapshot":
        position = self.order.index(index)
        run, heads, text = self.runs[position], self.eval_heads(index), self.text[position]
        evaluation = evaluate_target(heads, run.task.target.features, text, epoch, run.method.eval)
        start = self.offsets.pseudo[position]
        pseudo_labels = self.pseudo_labels[start : start + len(evaluation.pseudo_labels)]
        pseudo_labels.copy_(evaluation.pseudo_labels)
        if given := run.task.target_labels:
            pseudo_labels[given.rows] = given.labels
        held_out, spec = run.held_out_source, run.method.eval
        on_source = held_out and evaluate_target(heads, held_out.features, text, epoch, spec)
        return EpochSnapshot(index, evaluation, heads, text, on_source)

    def _measure_run(self, snapshot: "EpochSnapshot", means: Tensor | None) -> dict[str, Tensor]:
        """Return the numbers of a record, on the device."""
        figures = {"finite": snapshot.evaluation.probabilities.isfinite().all()}
        position = self.order.index(snapshot.run)
        if means is not None:
            figures["means"] = means[position]
        run = self.runs[position]
        if snapshot.held_out:
            figures["source"] = (snapshot.held_out.predictions == run.held_out_source.labels).double().mean()
        return figures

    def _create_record(
        self, snapshot: "EpochSnapshot", figures: Mapping[str, Tensor], measured: Mapping[str, Tensor]
    ) -> EpochRecord | None:
        """Return the record of a run; None if training diverged."""
        spec, epoch = self.runs[self.order.index(snapshot.run)].method.loss, snapshot.evaluation.epoch
        means = dict(zip((*TERMS, "w"), figures["means"].tolist(), strict=True)) if "means" in figures else {}
        losses = {term: means[term] for term in terms_of(spec) if means}
        if figures["finite"] and all(map(math.isfinite, losses.values())):
            source = figures["source"].item() if "source" in figures else None
            fields = {"losses": losses, "train_weight": means.get("w"), "source_accuracy": source}
            return EpochRecord(**vars(snapshot), **fields, measured=measured)
        self.failures[snapshot.run] = (
            f"training diverged in epoch {epoch}: losses or probabilities are not finite; try a lower train.lr"
        )
        return None


def _offsets(lengths: Sequence[int]) -> list[int]:
    """Return the offset of each of several concatenated parts."""
    return [0, *itertools.accumulate(lengths)][: len(lengths)]
