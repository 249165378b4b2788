"""A run's name and identity: what they say, and what leaves them alone."""

from dataclasses import replace

from factories.runs import run_spec

from unimos_pipe.base.dataclass_parsing import fingerprint, option_fields
from unimos_pipe.base.method_config import MethodSpec, method_spec
from unimos_pipe.runs.run_spec import RESULTS_VERSION, run_identity

PLAIN = run_spec(templates=("a {class}.",))
SHARDS = {"line": ["11"], "color": ["22"], "text": ["33"]}


def test_a_changed_default_raises_the_arithmetic():
    """If a default or a result changed, raise RESULTS_VERSION. If only an option was added, renew the digest alone."""
    assert (RESULTS_VERSION, fingerprint(MethodSpec())[:16]) == (6, "4cf56df114685f85")


def test_a_default_that_was_typed_changes_nothing():
    typed = replace(PLAIN, options=method_spec("full", {"train.epochs": 50, "loss.alpha": 1}))
    assert typed == PLAIN and typed.label() == "full"
    assert run_identity(typed, SHARDS, "accuracy") == run_identity(PLAIN, SHARDS, "accuracy")
    other = replace(PLAIN, variant="no-im", options=method_spec("no-im", {"loss.beta": 0.1, "train.epochs": 3}))
    assert other.changed == {"loss.beta": 0.1, "train.epochs": 3} and other.label() == "no-im,beta=0.1,epochs=3"


def test_everything_that_shapes_a_run_is_in_its_identity():
    def identity(shards=SHARDS, metric="accuracy", **changes):
        return run_identity(replace(PLAIN, **changes), shards, metric)

    found = [
        identity(),
        identity(shards={**SHARDS, "color": ["23"]}),
        identity(metric="per_class_mean"),
        *(identity(**{name: "other"}) for name in ("dataset", "encoder_id", "source", "target", "protocol")),
        identity(seed=1),
        identity(templates=("a photo of a {class}.",)),
        identity(options=method_spec("full", {"loss.gamma": 0.02})),
    ]
    assert len(set(found)) == len(found) == 11
    assert identity(variant="other") == identity()  # only a name for options
    assert identity(method="fused") not in found and identity(method="gda") != identity(method="fused")
    assert identity(method="auto") != identity(method="auto", label_set="partial")


def test_the_least_steps_are_in_the_identity_where_they_raise_the_steps():
    def identity(raised=(), **settings):
        changed = replace(PLAIN, options=method_spec("full", settings))
        return run_identity(changed, SHARDS, "accuracy", raised)

    plain = identity()
    assert plain == identity([None, None]) == identity(**{"train.min_steps": 1}) == identity(**{"train.min_steps": 3})
    assert len({plain, identity([10]), identity([12]), identity([None, 10])}) == 4


def test_a_run_of_unimos_is_known_as_before_there_were_other_methods():
    """The method enters only where it is another: finished runs of an arithmetic stay."""
    assert run_identity(PLAIN, SHARDS, "accuracy")[:16] == "d3f12f997bb1191e"


def test_labels_name_an_option_by_its_last_part():
    names = [name.rpartition(".")[2] for name, _ in option_fields(MethodSpec)]
    assert len(set(names)) == len(names)
