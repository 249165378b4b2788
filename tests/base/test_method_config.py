"""Specs: every fault at once, every field in the fingerprint."""

from dataclasses import fields, is_dataclass, replace

import pytest

from unimos_pipe.base.dataclass_parsing import fingerprint, option_fields, parse_dataclass
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import (
    VARIANTS,
    EncoderSpec,
    MethodSpec,
    PromptSpec,
    display_name,
    method_spec,
    parse_setting,
)


def leaves(spec, make=lambda inner: inner):
    """(name, spec with that one field changed) for every field below a spec."""
    for entry in fields(spec):
        value = getattr(spec, entry.name)
        if "extra" in entry.metadata:
            continue  # options from outside the package
        if is_dataclass(value):
            for name, inner in leaves(value):
                yield f"{entry.name}.{name}", replace(spec, **{entry.name: inner})
        else:
            changed = (
                (not value)
                if isinstance(value, bool)
                else (*value, "flip")  # a view of an image; any text is a template
                if isinstance(value, tuple)
                else value + value
                if value
                else 0.25
            )
            yield entry.name, replace(spec, **{entry.name: changed})


@pytest.mark.parametrize("spec", [MethodSpec(), EncoderSpec(), PromptSpec()], ids=lambda spec: type(spec).__name__)
def test_every_field_is_in_the_fingerprint(spec):
    prints = {name: fingerprint(changed) for name, changed in leaves(spec)}
    assert len({fingerprint(spec), *prints.values()}) == len(prints) + 1
    if isinstance(spec, MethodSpec):
        assert list(prints) == [name for name, _ in option_fields(MethodSpec)]


def test_labels_of_options_are_unambiguous():
    short = [name.rpartition(".")[2] for name, _ in option_fields(MethodSpec)]
    assert len(set(short)) == len(short)


def test_all_faults_come_in_one_message():
    values = {"loss": {"alpha": -1, "im": 1, "gama": 0.1}, "train": {"lr": float("nan"), "epochs": 2.5}, "extra": 1}
    with pytest.raises(InputError) as caught:
        parse_dataclass(MethodSpec, values, "here")
    assert str(caught.value) == (
        "here: unknown extra (known: heads, loss, train, eval); "
        "unknown loss.gama (did you mean loss.gamma? known: loss.alpha, loss.beta, loss.gamma, loss.distill, "
        "loss.im, loss.ortho, loss.ortho_form, loss.discriminator, "
        "loss.ensemble_weight, loss.weight_per, loss.train_ensemble, loss.mcc); "
        "loss.alpha: expected at least 0.0, got -1.0; loss.im: expected bool, got 1; "
        "train.epochs: expected int, got 2.5; train.lr: expected at least 0.0, got nan"
    )


def test_settings_take_their_options_type():
    assert parse_setting("loss.gamma=0.05") == ("loss.gamma", 0.05)
    assert parse_setting("train.epochs=7") == ("train.epochs", 7)
    assert parse_setting("loss.im=False") == ("loss.im", False)
    assert method_spec("full", dict([parse_setting("heads.similarity=cosine")])).heads.similarity == "cosine"
    with pytest.raises(InputError, match=r"^settings loss.im: expected bool, got '1'$"):
        parse_setting("loss.im=1")
    with pytest.raises(InputError, match=r"^settings epochs: expected section.key=value, got 'epochs'$"):
        parse_setting("epochs")


BOUNDS = [
    (name, bound, entry.metadata[bound])
    for name, entry in option_fields(MethodSpec)
    for bound in ("low", "high")
    if entry.metadata[bound] is not None
]


@pytest.mark.parametrize(("name", "bound", "value"), BOUNDS)
def test_a_value_at_its_bound_is_taken_and_the_next_one_refused(name, bound, value):
    group, _, option = name.partition(".")
    assert getattr(getattr(method_spec("full", {name: value}), group), option) == value
    step = 1 if isinstance(value, int) else 1e-9
    with pytest.raises(InputError, match=f"{option}: expected "):
        method_spec("full", {name: value + step * (1 if bound == "high" else -1)})


def test_a_label_says_what_is_ours():
    assert [display_name(label) for label in ("full", "fused-teacher", "fused-teacher,epochs=2", "no-im,epochs=2")] == [
        "full",
        "fused-teacher (ours)",
        "fused-teacher (ours),epochs=2",
        "no-im,epochs=2",
    ]


def test_variants_change_what_table_5_says():
    base = method_spec()
    changed = {
        name: {n for (n, a), (_, b) in zip(flat(base), flat(method_spec(name)), strict=True) if a != b}
        for name in VARIANTS
    }
    assert changed == {
        "full": set(),
        "no-ortho": {"loss.ortho"},
        "no-debias": {"eval.debias_tau"},
        "no-im": {"loss.im"},
        "no-distill": {"loss.distill"},
        "fixed-weight": {"loss.ensemble_weight"},
        "no-discriminator": {"loss.discriminator"},
        "fused-teacher": {"train.text"},
    }


def flat(spec) -> list[tuple[str, object]]:
    return [
        (name, getattr(getattr(spec, name.split(".")[0]), name.split(".")[1])) for name, _ in option_fields(MethodSpec)
    ]


def test_an_option_that_was_renamed_says_so():
    new = "eval.w_step is now eval.w_epochs"
    with pytest.raises(InputError) as caught:
        parse_dataclass(MethodSpec, {"eval": {"w_step": 0.1, "w_stop": 1}}, "here")
    assert str(caught.value).startswith(
        f"here: unknown eval.w_step, eval.w_stop ({new}; did you mean eval.w_start? known: "
    )
    with pytest.raises(InputError, match=f"^settings eval.w_step: no such option; {new}$"):
        parse_setting("eval.w_step=0.1")
