"""Every option of the method has its effect, alone and in company; domains are told apart by name."""

from dataclasses import replace

import pytest
import torch
from factories.tasks import SMALL, random_task
from rounding import assert_within, perturbed_task, rounding_bounds

from unimos_pipe.base.dataclass_parsing import option_fields
from unimos_pipe.base.method_config import MethodSpec, method_spec
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

pytestmark = pytest.mark.numerical
STEPS = 15  # three epochs of 40 // 8 steps
BASE = SMALL | {"train.epochs": 3, "train.batch_size": 8}
OTHER = {  # a value that is not the base's; booleans and choices take the one that is left
    "heads.bottleneck_dim": 6,
    "heads.weight_hidden": 7,
    "heads.discriminator_hidden": 5,
    "heads.discriminator_dropout": 0.25,
    "heads.temperature_scale": 50.0,
    "loss.alpha": 0.3,
    "loss.beta": 0.2,
    "loss.gamma": 0.5,
    "loss.mcc": 0.7,
    "train.epochs": 2,
    "train.lr": 1e-2,
    "train.lr_gamma": 0.3,
    "train.lr_power": 3.0,
    "train.momentum": 0.5,
    "train.batch_size": 6,
    "train.max_steps": 3,
    "train.min_steps": 8,
    "train.prior_momentum": 0.5,
    "train.reset_probability": 1.0,
    "train.source_holdout": 0.25,
    "eval.debias_tau": 2.0,
    "eval.w_start": 0.4,
    "eval.w_end": 0.7,
    "eval.w_epochs": 2,
}
PRECISION = "train.precision"  # a matter of the task's dtype; every one has a form of its own


def other_value(name, entry):
    if entry.type is bool:
        return not entry.default
    if choices := entry.metadata["choices"]:
        return next(choice for choice in choices if choice != entry.default)
    return OTHER[name]


def last_records(trainer):
    """The last record of every run, in the order given."""
    found = {}
    for _, records in trainer.train():
        found |= {record.run: record for record in records}
    return [found[run] for run in sorted(found)]


def results(records):
    """Probabilities and losses of records, as tensors."""
    losses = [torch.tensor([*record.losses.values()], dtype=torch.float64) for record in records]
    return [record.evaluation.probabilities for record in records] + losses


def assert_trains_as_alone(tasks, methods, seeds, alone) -> None:
    """Assert that runs in one stack end as their lone records, but for the rounding of the steps that they took."""

    def stacked(seed: int | None) -> list[torch.Tensor]:
        own = tasks if seed is None else [perturbed_task(task, seed) for task in tasks]
        return results(last_records(Trainer([create_run(*run) for run in zip(own, methods, seeds, strict=True)])))

    assert_within(stacked(None), results(alone), rounding_bounds(stacked, STEPS))


def test_every_option_acts_and_does_so_in_a_stack_as_alone():
    """One with another value than its company is either kept out of the stack, or trains as it does alone."""
    task = random_task()
    settings = {name: other_value(name, entry) for name, entry in option_fields(MethodSpec) if name != PRECISION}
    methods = [method_spec("full", BASE)]
    methods += [method_spec("full", BASE | {name: value}) for name, value in settings.items()]
    names = ["nothing", *settings]
    alone = [last_records(Trainer([create_run(task, method, 0)]))[0] for method in methods]
    for name, record in zip(names[1:], alone[1:], strict=True):
        assert not torch.equal(record.evaluation.probabilities, alone[0].evaluation.probabilities), name
    stacks: dict = {}
    for index, method in enumerate(methods):
        stacks.setdefault(create_run(task, method, 0).stack_key, []).append(index)
    together = max(stacks.values(), key=len)
    assert {name for name in names if names.index(name) not in together} == {
        *(name for name in settings if name.startswith("heads.")),
        *("train.epochs", "train.momentum", "train.batch_size", "loss.weight_per", "loss.train_ensemble"),
    }
    stacked = [methods[index] for index in together]
    assert_trains_as_alone([task] * len(together), stacked, [0] * len(together), [alone[index] for index in together])


def test_precisions_have_forms_of_their_own():
    forms = {
        create_run(random_task(), method_spec("full", BASE | {PRECISION: p}), 0).stack_key
        for p in ("fp32", "fp64", "bf16")
    }
    assert len(forms) == 3


@pytest.fixture
def three_domains():
    """Three domains, each a labelled and an unlabelled side of one tensor, with prompts."""
    sides = []
    for seed, name in enumerate("abc"):
        task = random_task(source=40 + 8 * seed, seed=seed)
        sides.append((name, task.source.features, task.source.labels, task.text_features))
    return sides


def pair(source, target) -> AdaptationTask:
    name, features, labels, _ = source
    other, unlabelled, _, text = target
    return AdaptationTask(LabelledFeatures(features, labels, name), UnlabelledFeatures(unlabelled, other), text)


def test_pairs_that_share_domains_in_both_roles_train_as_alone(three_domains):
    """a is source of one run and target of another: no run learns from labels that are its target's."""
    a, b, c = three_domains
    method = method_spec("full", BASE)
    tasks = [pair(a, b), pair(b, a), pair(c, a)]
    stack = Trainer([create_run(task, method, seed) for seed, task in enumerate(tasks)])
    assert len(stack.rows) == 40 + 48 + 56  # each domain once
    alone = [last_records(Trainer([create_run(task, method, seed)]))[0] for seed, task in enumerate(tasks)]
    assert_trains_as_alone(tasks, [method] * 3, range(3), alone)


def test_a_runs_answers_do_not_depend_on_what_labels_its_target_has_elsewhere(three_domains):
    """b's labels are known to the run that learns from b, and change nothing for the run that adapts to b."""
    a, b, _ = three_domains
    method = method_spec("full", BASE)
    wrong = (b[0], b[1], (b[2] + 1) % 5, b[3])
    found = [
        last_records(Trainer([create_run(pair(a, b), method, 0), create_run(pair(known, a), method, 1)]))
        for known in (b, wrong)
    ]
    assert torch.equal(found[0][0].evaluation.probabilities, found[1][0].evaluation.probabilities)
    assert not torch.equal(found[0][1].evaluation.probabilities, found[1][1].evaluation.probabilities)


def test_a_source_that_is_a_view_of_the_target_is_a_domain_of_its_own():
    task = random_task(source=40, target=56)
    view = replace(task, source=LabelledFeatures(task.target.features[:40], task.source.labels, "view"))
    copy = replace(task, source=LabelledFeatures(task.target.features[:40].clone(), task.source.labels, "copy"))
    method = method_spec("full", BASE)
    ours, wanted = (last_records(Trainer([create_run(t, method, 0)]))[0] for t in (view, copy))
    assert torch.equal(ours.evaluation.probabilities, wanted.evaluation.probabilities)


def test_one_name_for_different_rows_is_refused():
    first, second = random_task(seed=1), random_task(seed=2)
    second = replace(second, source=replace(second.source, name=first.source.name))
    method = method_spec("full", BASE)
    with pytest.raises(ValueError, match=r"two domains of different rows are called 'source 1, torch.float64'"):
        Trainer([create_run(first, method, 0), create_run(second, method, 0)])
