"""A run to train: task, method, and everything derived from its seed."""

from dataclasses import dataclass, replace

from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.methods.target_labels import join_target_labels
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures
from unimos_pipe.methods.unimos.random_streams import RandomStreams, holdout_order
from unimos_pipe.methods.unimos.schedules import batch_rows, steps_per_epoch
from unimos_pipe.methods.unimos.stack_key import StackKey
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.run_spec import RunSpec, calibration_options


@dataclass(frozen=True)
class TrainingRun:
    """One run to train: task, method and random streams (from :func:`create_run`, or a recording)."""

    task: AdaptationTask
    method: MethodSpec
    random_streams: RandomStreams
    batch: int
    steps: int  # per epoch
    held_out_source: LabelledFeatures | None = None  # source rows that training does not see

    @property
    def stack_key(self) -> StackKey:
        """Key of the run; runs with equal keys can train as one stack."""
        return StackKey.create(self.method, self.batch, *self.task.text_features.shape)


def count_held_out(method: MethodSpec, source_rows: int) -> int:
    """Return how many of the source's rows training does not see."""
    return int(method.train.source_holdout * source_rows)


def raised_steps(method: MethodSpec, source_rows: int, target_rows: int) -> int | None:
    """Return the steps per epoch where ``train.min_steps`` raises them; None where it changes nothing."""
    sizes, train = (source_rows - count_held_out(method, source_rows), target_rows), method.train
    batch = batch_rows(*sizes, train.batch_size)
    steps = steps_per_epoch(*sizes, batch, train.max_steps, train.min_steps)
    return steps if steps > steps_per_epoch(*sizes, batch, train.max_steps) else None


def raised_steps_of_spec(spec: RunSpec, task: AdaptationTask) -> list[int | None]:
    """Return :func:`raised_steps` of a run and of its calibration run; empty for other methods than UniMoS."""
    if spec.method != UNIMOS:
        return []
    options = [spec.options, *([calibration_options(spec.options)] if spec.calibrate else [])]
    return [raised_steps(each, len(task.source.features), len(task.target.features)) for each in options]


def create_run(task: AdaptationTask, method: MethodSpec, seed: int) -> TrainingRun:
    """Return a run whose random choices all follow from its seed."""
    held_out = None
    if rows := count_held_out(method, len(task.source.features)):
        order = holdout_order(seed, len(task.source.features)).to(task.source.labels.device)
        held_out, rest = (
            task.source.subset(part, f"{task.source.name}, {what}")
            for part, what in ((order[:rows], f"{rows} held out"), (order[rows:], f"without {rows} by seed {seed}"))
        )
        task = replace(task, source=rest)
    task = join_target_labels(task)
    sizes = len(task.source.features), len(task.target.features)
    batch = batch_rows(*sizes, method.train.batch_size)
    steps = steps_per_epoch(*sizes, batch, method.train.max_steps, method.train.min_steps)
    return TrainingRun(task, method, RandomStreams(seed, *sizes, batch, task.source.origins), batch, steps, held_out)
