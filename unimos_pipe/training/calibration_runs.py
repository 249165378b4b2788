"""Temperatures of UniMoS runs, each from a calibration run.

For each pair and configuration, one extra run of seed 0 holds out 20% of the source. The temperature is fitted on the
held-out rows and serves all seeds. Calibration runs train in stacks of their own, so they do not change the runs'
results.
"""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import xxhash

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.fork_pool import Send, parallel_map
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, list_folder, read_text
from unimos_pipe.evaluation.calibration import fit_temperature
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun, create_run
from unimos_pipe.runs.run_spec import RunSpec, calibration_options
from unimos_pipe.runs.run_values import Calibration
from unimos_pipe.training.batched_training import PlannedRun, load_finished
from unimos_pipe.training.batching import count_epochs, plan_stacks
from unimos_pipe.training.checkpoint import Checkpoint
from unimos_pipe.training.run_recorder import pair_identity

CALIBRATION_FILES = "calibration-*.json"  # names of files in the checkpoints' folder


def calibration_spec(spec: RunSpec) -> RunSpec:
    """Return the spec of the calibration run of a run: the same spec with seed 0."""
    return replace(spec, seed=0)


def calibration_specs(plans: Sequence[PlannedRun]) -> list[RunSpec]:
    """Return the distinct calibration runs of a plan."""
    return list(dict.fromkeys(calibration_spec(plan.spec) for plan in plans if plan.spec.calibrate))


def fit_calibrations(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    stack_size: int | None = None,
    keep_finished: bool = False,
    checkpoints: Path | None = None,
    on_epochs: Callable[[int], None] = lambda runs: None,
) -> dict[RunSpec, Calibration]:
    """Train the calibration runs of a plan of UniMoS runs and fit their temperatures.

    The stacks follow from the whole plan; stacks without an unfinished run are skipped.

    Args:
        stack_size, keep_finished: as for :func:`unimos_pipe.training.batched_training.train_runs`.
        checkpoints: folder of the stacks' checkpoints and of the temperatures fitted so far; None: none.
        on_epochs: called with the number of run-epochs completed since the last call.
    Returns:
        Calibrations by :func:`calibration_spec`. A run that diverged or has no row to hold out is absent.
    """
    specs = calibration_specs(plans)
    open_specs = {
        calibration_spec(plan.spec)
        for plan in plans
        if plan.spec.calibrate and not (keep_finished and load_finished(plan, plan.load_data(loader)).reused)
    }
    plan_by_spec = {calibration_spec(plan.spec): plan for plan in reversed(plans)}
    data = [plan_by_spec[spec].load_data(loader) for spec in specs]
    runs = [_create_holdout_run(pair.task, spec) for pair, spec in zip(data, specs, strict=True)]
    identities = [f"calibration {pair_identity(spec, pair)}" for pair, spec in zip(data, specs, strict=True)]
    stack_plan = plan_stacks(runs, stack_size, loader.device)
    open_stacks = [members for members in stack_plan.stacks if not open_specs.isdisjoint(specs[i] for i in members)]
    on_epochs(count_epochs(runs) - sum(count_epochs(runs[i] for i in members) for members in open_stacks))

    def fit(members: Sequence[int], send: Send) -> list[Calibration | None]:
        stored = _StoredCalibrations(checkpoints, [identities[i] for i in members])
        if (calibrations := stored.load()) is not None:
            send(count_epochs(runs[i] for i in members))
            return calibrations
        calibrations = _fit_temperatures(
            [runs[i] for i in members], stored.checkpoint, send, stack_plan.concurrent_stacks(len(open_stacks))
        )
        stored.save(calibrations)
        return calibrations

    fitted = parallel_map(fit, open_stacks, stack_plan.processes, on_epochs)
    pairs = zip(itertools.chain(*open_stacks), itertools.chain(*fitted), strict=True)
    return {specs[i]: calibration for i, calibration in pairs if calibration}


class _StoredCalibrations:
    """The temperatures of one stack, in a file beside its checkpoint until the plan is done.

    The file is JSON after a line with its xxh3 digest; what is damaged or another stack's is passed over.
    """

    def __init__(self, folder: Path | None, identities: Sequence[str]):
        self.checkpoint = Checkpoint.open(folder, identities)
        self.path = folder and folder / CALIBRATION_FILES.replace("*", self.checkpoint.key[:16])

    def load(self) -> list[Calibration | None] | None:
        """The stack's temperatures where they were fitted before. Raises ReadError."""
        if self.path is None or not self.path.is_file():
            return None
        digest, _, body = read_text(self.path, MAX_SETTINGS_BYTES).partition("\n")
        if digest != xxhash.xxh3_128(body.encode()).hexdigest():
            return None
        values = json.loads(body)
        if values["key"] != self.checkpoint.key:
            return None
        return [row and Calibration(*row) for row in values["calibrations"]]

    def save(self, calibrations: Sequence[Calibration | None]) -> None:
        """Keep the temperatures; the checkpoint has served."""
        if self.path is not None:
            rows = [calibration and astuple(calibration) for calibration in calibrations]
            body = json.dumps({"key": self.checkpoint.key, "calibrations": rows})
            write_text(self.path, f"{xxhash.xxh3_128(body.encode()).hexdigest()}\n{body}")
        self.checkpoint.remove()


def remove_calibrations(checkpoints: Path) -> None:
    """Clear the temperatures of a plan that is done."""
    for path in list_folder(checkpoints, CALIBRATION_FILES):
        path.unlink(missing_ok=True)


def _create_holdout_run(task, spec: RunSpec) -> TrainingRun:
    return create_run(task, calibration_options(spec.options), spec.seed)


def _fit_temperatures(
    runs: Sequence[TrainingRun], checkpoint: Checkpoint, on_epochs: Callable[[int], None], concurrent_stacks: int
) -> list[Calibration | None]:
    """Train a stack and fit each run's temperature after the last epoch.

    Args:
        concurrent_stacks: stacks that train at the same time; a run's seconds are its share of the machine's.
    """
    started = time.perf_counter()
    trainer = Trainer(runs)
    last = runs[0].method.train.epochs - 1
    temperatures: dict[int, float] = {}
    resumed, _ = checkpoint.load(trainer, ())
    on_epochs(max(0, resumed + 1) * len(runs))
    for epoch, records in trainer.train(after_epoch=resumed):
        for record in records:
            held_out = runs[record.run].held_out_source
            if epoch == last and held_out is not None:
                model = UniMoSModel(record.heads, record.text, runs[record.run].method)
                temperatures[record.run] = fit_temperature(model.logits(held_out.features), held_out.labels)
        if BEFORE_TRAINING < epoch < last:
            checkpoint.save_if_due(epoch, trainer, ())
        on_epochs(len(runs) if epoch > BEFORE_TRAINING else 0)
    seconds = round((time.perf_counter() - started) / len(runs) / concurrent_stacks, 3)
    return [
        Calibration(temperatures[i], len(runs[i].held_out_source.labels), seconds)
        if i in temperatures and i not in trainer.failures
        else None
        for i in range(len(runs))
    ]
