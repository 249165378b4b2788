"""The options of a finished run are those that it was made with."""

from dataclasses import fields

from unimos_pipe.experiments.pairs import AdaptOptions
from unimos_pipe.runs.run_calls import training_options
from unimos_pipe.runs.run_values import RecordedSpec

PLAIN = {"dataset": "icons", "encoder_id": "e", "source": "line", "target": "sketch", "options": {}}


def test_every_option_of_adapt_is_repeated():
    changed = {
        "method": "auto",
        "label_set": "partial",
        "use_target_labels": True,
        "unknown": "0.2",
        "variant": "no-im",
        "protocol": "inductive",
        "calibrate": False,
    }
    options = training_options(RecordedSpec(**PLAIN, **changed, seed=3, changed={"train.epochs": 2}), [3, 4])
    assert options == {**changed, "settings": {"train.epochs": 2}, "seeds": (3, 4)}
    assert options.keys() == {entry.name for entry in fields(AdaptOptions)}


def test_defaults_are_left_out_but_for_the_protocol():
    spec = RecordedSpec(**PLAIN, variant="full", seed=0, calibrate=True, changed={})
    assert training_options(spec, [0]) == {"protocol": "transductive"}
