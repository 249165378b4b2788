"""Lockstep: a stack equals its lone runs; states resume to the bit; a run that diverges leaves the others alone."""

import resource
import sys
from dataclasses import replace

import pytest
import torch
from factories.tasks import random_task, small_method
from rounding import assert_within, perturbed_task, rounding_bounds

from unimos_pipe.methods.unimos import fused_sgd
from unimos_pipe.methods.unimos import trainer as trainer_module
from unimos_pipe.methods.unimos.heads import LINEAR
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

pytestmark = pytest.mark.numerical
METHODS = [
    small_method(train__epochs=3, train__batch_size=8),
    small_method("no-im", train__epochs=3, train__batch_size=8, loss__alpha=0.3),
    small_method("fixed-weight", train__epochs=3, train__batch_size=8, train__lr=1e-2),
    small_method("no-discriminator", train__epochs=3, train__batch_size=8),
]


def mixed_runs(noise=None):
    """Runs of different pairs, sizes, variants and seeds: 3, 5, 5 and 4 steps an epoch; perturbed if with noise."""
    first, second, third = random_task(24, 56, seed=1), random_task(40, 41, seed=2), random_task(36, 33, seed=3)
    tasks = [first, second, second, third]
    tasks = tasks if noise is None else [perturbed_task(task, noise) for task in tasks]
    return [create_run(task, method, seed) for seed, (task, method) in enumerate(zip(tasks, METHODS, strict=True))]


def train(trainer, **kwargs):
    """{(run, epoch): record}."""
    return {(r.run, epoch): r for epoch, records in trainer.train(**kwargs) for r in records}


def logged_steps(monkeypatch):
    calls = []
    real = trainer_module.train_step

    def step(heads, batch, *rest):
        values = real(heads, batch, *rest)
        calls.append(values)
        return values

    monkeypatch.setattr(trainer_module, "train_step", step)
    return calls


def trained(runs, calls) -> list[list[torch.Tensor]]:
    """Of every run, its steps' values, probabilities and labels by epoch, and weights. ``calls`` logs the steps."""
    calls.clear()
    stack = Trainer(runs)
    records = train(stack)
    results = []
    for index in range(len(runs)):
        position = stack.order.index(index)
        values = torch.stack([values[position] for values in calls if len(values) > position])
        probabilities = torch.stack([records[index, epoch].evaluation.probabilities for epoch in range(-1, 3)])
        labels = torch.stack([records[index, epoch].evaluation.pseudo_labels for epoch in range(-1, 3)])
        weights = {**stack.run_state(index)}
        del weights["bottleneck_linear.bias"]  # BatchNorm cancels its gradient
        results.append([values, probabilities, labels.double(), *weights.values()])
    return results


def test_a_stack_of_mixed_runs_equals_lone_runs_in_float64(monkeypatch):
    """Bound: the spread of the stack on features off by 1e-15, for every step that the longest run takes."""
    calls = logged_steps(monkeypatch)
    assert [run.steps for run in mixed_runs()] == [3, 5, 5, 4]
    together = trained(mixed_runs(), calls)
    # steps 0..2 of each epoch hold all four runs, step 3 three of them, step 4 two: idle slots are not computed
    assert [len(values) for values in calls] == [4, 4, 4, 3, 2] * 3
    bounds = rounding_bounds(lambda seed: [part for run in trained(mixed_runs(seed), calls) for part in run], 15)
    alone = [trained([run], calls)[0] for run in mixed_runs()]
    assert [len(values) for values, *_ in alone] == [9, 15, 15, 12]
    assert_within([part for run in together for part in run], [part for run in alone for part in run], bounds)


def test_runs_draw_the_same_whatever_their_company():
    stack, lone = Trainer(mixed_runs()), Trainer([mixed_runs()[3]])
    position = stack.order.index(3)
    ours, theirs = stack.sampler.sample(0, 0), lone.sampler.sample(0, 0)
    for step in range(4):
        own, alone = ([drawn[step, place] for drawn in block] for block, place in ((ours, position), (theirs, 0)))
        shifts = [starts.source[place] for starts, place in ((stack.offsets, position), (lone.offsets, 0))]
        assert (own[0][:8] - shifts[0]).equal(alone[0][:8] - shifts[1])
        shifts = [starts.target[place] for starts, place in ((stack.offsets, position), (lone.offsets, 0))]
        assert (own[0][8:] - shifts[0]).equal(alone[0][8:] - shifts[1])
        assert (own[1] - stack.offsets.labels[position]).equal(alone[1])
        assert (own[2] - stack.offsets.pseudo[position]).equal(alone[2])
        assert own[3].equal(alone[3])  # dropout
        assert own[4].equal(alone[4])  # learning rate
    assert stack.heads.params["vision_separator.weight"][position].equal(
        lone.heads.params["vision_separator.weight"][0]
    )


def test_resuming_from_a_state_repeats_the_rest_to_the_bit():
    whole = Trainer(mixed_runs())
    everything = train(whole)
    first = Trainer(mixed_runs())
    for epoch, records in first.train():
        list(records)
        if epoch == 0:
            break
    state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    second = Trainer(mixed_runs())
    second.load_state_dict(state)
    rest = train(second, after_epoch=0)
    assert sorted(rest) == [(run, epoch) for run in range(4) for epoch in (1, 2)]
    for key, record in rest.items():
        assert record.losses == everything[key].losses
        assert record.evaluation.probabilities.equal(everything[key].evaluation.probabilities)
    for name, tensor in whole.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


def test_a_state_of_other_runs_is_refused():
    with pytest.raises(ValueError, match=r"the checkpoint does not fit these runs: params.vision_separator.weight"):
        Trainer(mixed_runs()).load_state_dict(Trainer(mixed_runs()[:2]).state_dict())


def test_a_diverging_run_does_not_touch_the_others():
    runs = mixed_runs()
    bad = small_method("fixed-weight", train__epochs=3, train__batch_size=8, train__lr=1e30)
    with_bad = [*runs[:2], create_run(random_task(40, 41, seed=2), bad, 2), runs[3]]
    stack = Trainer(with_bad)
    records = train(stack)
    assert stack.failures == {
        2: "training diverged in epoch 0: losses or probabilities are not finite; try a lower train.lr"
    }
    assert [key for key in records if key[0] == 2] == [(2, BEFORE_TRAINING)]
    good = train(Trainer(mixed_runs()))
    for run in (0, 1, 3):
        assert records[run, 2].evaluation.probabilities.equal(good[run, 2].evaluation.probabilities)


def test_probabilities_that_are_not_finite_are_a_failure_though_the_losses_are(monkeypatch):
    real = trainer_module.evaluate_target

    def assess(heads, x, text, epoch, spec):
        found = real(heads, x, text, epoch, spec)
        return replace(found, probabilities=found.probabilities * float("nan")) if epoch == 1 else found

    monkeypatch.setattr(trainer_module, "evaluate_target", assess)
    stack = Trainer([create_run(random_task(), METHODS[0], 0)])
    assert [epoch for _, epoch in train(stack)] == [BEFORE_TRAINING, 0]
    assert stack.failures == {
        0: "training diverged in epoch 1: losses or probabilities are not finite; try a lower train.lr"
    }


def test_float32_runs_learn_something():
    """On made clusters with misleading prompts the ensemble ends above the zero-shot answers."""
    method = small_method(train__epochs=10, train__batch_size=16)
    task = random_task(160, 160, dim=16, dtype=torch.float32, seed=4)
    labels = torch.arange(160) % 5
    found = train(Trainer([create_run(task, method, 0)]))
    before = float((found[0, -1].evaluation.text_predictions == labels).double().mean())
    after = float((found[0, 9].evaluation.predictions == labels).double().mean())
    assert before < 0.85 and after > before + 0.05
    assert found[0, 9].losses["vac"] < found[0, 0].losses["vac"]


def test_bf16_products_stay_close_to_float32_over_the_first_epoch():
    task = random_task(160, 160, dim=16, dtype=torch.float32, seed=4)
    found = {}
    for precision in ("fp32", "bf16"):
        method = small_method(train__epochs=1, train__batch_size=16, train__precision=precision)
        found[precision] = train(Trainer([create_run(task, method, 0)]))[0, 0]
    for term, value in found["fp32"].losses.items():
        assert found["bf16"].losses[term] == pytest.approx(value, rel=0.1, abs=0.02), term
        assert found["bf16"].losses[term] != value
    agree = found["bf16"].evaluation.predictions == found["fp32"].evaluation.predictions
    assert agree.double().mean() > 0.95


@pytest.mark.parametrize("change", ["restarts", "checkpoint"])
def test_bf16_copies_follow_weights_through_steps_restarts_and_checkpoints(change):
    """What products read is the weight itself, rounded: after an epoch, whose start restarts W, and after loading."""
    task = random_task(40, 40, dtype=torch.float32)
    settings = {"train__reset_probability": 1.0} if change == "restarts" else {}
    method = small_method(train__epochs=2, train__batch_size=8, train__precision="bf16", **settings)
    stack = Trainer([create_run(task, method, seed) for seed in range(2)])
    train(stack)
    if change == "restarts":
        stack._reset_weight_generators()
    else:
        fresh = Trainer([create_run(task, method, seed) for seed in range(2, 4)])
        fresh.load_state_dict(stack.state_dict())
        stack = fresh
    assert set(stack.heads.copies) == {name for name in stack.heads.params if name in LINEAR}
    for name, copy in stack.heads.copies.items():
        assert copy.dtype == torch.bfloat16 and copy.equal(stack.heads.params[name].bfloat16()), name


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_a_cpu_moves_large_weights_part_by_part_with_the_same_result(monkeypatch, precision):
    """Weights of one run at a time, and those of all three at once.

    Bounds: in float64 the spread on features off by 1e-15, for each of five steps. A bf16 product may be rounded to a
    neighbour, 2^-8 of it away, at each of five steps, which together move a weight as far as it went.
    """
    method = small_method(train__epochs=1, train__batch_size=8, train__precision=precision)
    task = random_task(40, 40, dtype=torch.float64 if precision == "fp64" else torch.float32)

    def weights(noise: int | None = None) -> list[torch.Tensor]:
        own = task if noise is None else perturbed_task(task, noise)
        stack = Trainer([create_run(own, method, seed) for seed in range(3)])
        start = [tensor.clone() for tensor in stack.heads.params.values()]
        train(stack)
        travelled[:] = [
            (after - before).abs().max() for after, before in zip(stack.heads.params.values(), start, strict=True)
        ]
        return [tensor.clone() for name, tensor in stack.heads.params.items() if name != "bottleneck_linear.bias"]

    travelled: list[torch.Tensor] = []
    whole = weights()
    bounds = rounding_bounds(weights, 5) if precision == "fp64" else [float(5 * 2**-8 * max(travelled))] * len(whole)
    monkeypatch.setattr(fused_sgd, "CPU_BLOCK_WEIGHTS", 1)
    assert_within(weights(), whole, bounds, most=1e-9 if precision == "fp64" else 0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_of_a_stack_with_large_weights_take_no_fresh_memory(precision):
    """Twelve weights of 4 MB: together they are above what malloc keeps, and nothing as large comes and goes."""
    task = random_task(64, 64, dim=1024, dtype=torch.float32)
    method = small_method(train__epochs=1, train__batch_size=32, train__precision=precision)
    stack = Trainer([create_run(task, method, seed) for seed in range(12)])
    train(stack)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    stack._train_epoch(1)
    # Pages of 4 KiB. A fresh copy of the weights in bf16 takes 6,144; the kernel alone causes some hundreds.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 3072


def test_held_out_source_rows_are_not_trained_on_and_are_scored():
    task = random_task(40, 56)
    method = small_method(train__epochs=2, train__batch_size=8, train__source_holdout=0.25)
    run = create_run(task, method, 3)
    rows = {tuple(row) for row in task.source.features.tolist()}
    held, kept = ({tuple(row) for row in part.features.tolist()} for part in (run.held_out_source, run.task.source))
    assert (len(held), len(kept)) == (10, 30) and held | kept == rows and not held & kept
    assert run.steps == 3 and create_run(task, method, 3).held_out_source.labels.equal(run.held_out_source.labels)
    trainer = Trainer([run])
    records = train(trainer)
    text, heads = task.text_features, trainer.eval_heads(0)
    last = trainer_module.evaluate_target(heads, run.held_out_source.features, text, 1, method.eval).predictions
    assert records[0, 1].source_accuracy == (last == run.held_out_source.labels).double().mean()
    assert train(Trainer([create_run(task, small_method(train__epochs=1), 3)]))[0, 0].source_accuracy is None
