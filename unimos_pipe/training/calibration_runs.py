"""UniMoS's temperatures: a companion run per pair and cell keeps source rows back, and answers them at its end.

The companion is of seed 0 and trains in a stack of companions, so that the runs themselves do not change by a byte.
Its temperature serves all seeds.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from unimos_pipe.base.fork_pool import Send, parallel_map
from unimos_pipe.evaluation.calibration import Calibration, fit_temperature
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun, create_run
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.training.batched_training import PlannedRun, load_finished
from unimos_pipe.training.batching import count_epochs, plan_stacks

HOLDOUT = 0.2  # of the source's rows


def calibration_spec(spec: RunSpec) -> RunSpec:
    """The run whose companion calibrates a run: the same, of seed 0."""
    return replace(spec, seed=0)


def calibration_specs(plans: Sequence[PlannedRun]) -> list[RunSpec]:
    """The distinct companions of a plan, of the runs that ask for one."""
    return list(dict.fromkeys(calibration_spec(plan.spec) for plan in plans if plan.spec.calibrate))


def fit_calibrations(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    stack_size: int | None = None,
    keep_finished: bool = False,
    on_epochs: Callable[[int], None] = lambda runs: None,
) -> dict[RunSpec, Calibration]:
    """Train the companions of a plan of UniMoS's runs, in lockstep, and fit their temperatures.

    What is stacked with what follows from the whole plan; stacks without a run to make are left out.

    Args:
        stack_size, keep_finished: as for :func:`unimos_pipe.training.batched_training.train_runs`.
        on_epochs: called with the number of companion-epochs just settled.
    Returns:
        By :func:`calibration_spec`; a companion that diverged or has no row to keep back is absent.
    """
    specs = calibration_specs(plans)
    open_specs = {
        calibration_spec(plan.spec)
        for plan in plans
        if plan.spec.calibrate and not (keep_finished and load_finished(plan, plan.load_data(loader)).reused)
    }
    first = {calibration_spec(plan.spec): plan for plan in reversed(plans)}
    runs = [_held_run(first[spec].load_data(loader).task, spec) for spec in specs]
    grouped = plan_stacks(runs, stack_size, loader.device)
    needed = [members for members in grouped.stacks if not open_specs.isdisjoint(specs[i] for i in members)]
    on_epochs(count_epochs(runs) - sum(count_epochs(runs[i] for i in members) for members in needed))

    def fit(members: Sequence[int], tell: Send) -> list[Calibration | None]:
        return _temperatures([runs[i] for i in members], tell, grouped.concurrent_stacks(len(needed)))

    fitted = parallel_map(fit, needed, grouped.processes, on_epochs)
    pairs = zip(itertools.chain(*needed), itertools.chain(*fitted), strict=True)
    return {specs[i]: calibration for i, calibration in pairs if calibration}


def _held_run(task, spec: RunSpec) -> TrainingRun:
    options = replace(spec.options, train=replace(spec.options.train, source_holdout=HOLDOUT))
    return create_run(task, options, spec.seed)


def _temperatures(
    runs: Sequence[TrainingRun], on_epochs: Callable[[int], None], beside: int
) -> list[Calibration | None]:
    """Train a stack, of so many ``beside`` each other, and fit each run's temperature after the last epoch."""
    started = time.perf_counter()
    trainer = Trainer(runs)
    last = runs[0].method.train.epochs - 1
    temperatures: dict[int, float] = {}
    for epoch, records in trainer.train():
        for record in records:
            held = runs[record.run].held_source
            if epoch == last and held is not None:
                model = UniMoSModel(record.heads, record.text, runs[record.run].method)
                temperatures[record.run] = fit_temperature(model.logits(held.features), held.labels)
        on_epochs(len(runs) if epoch >= 0 else 0)
    seconds = round((time.perf_counter() - started) / len(runs) / beside, 3)
    return [
        Calibration(temperatures[i], len(runs[i].held_source.labels), seconds)
        if i in temperatures and i not in trainer.failures
        else None
        for i in range(len(runs))
    ]
