"""What adapt says beside a run's figures: auto's pick, what is known without labels, and warnings."""

import re

import pytest

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.cli.print_diagnostics import print_diagnostics
from unimos_pipe.runs.run_spec import RunSpec


class Told:
    """In the place of the output."""

    def __init__(self):
        self.results, self.warnings = [], []
        self.result, self.warn = self.results.append, self.warnings.append


def told(method: str = "unimos", choice=None, scores=None, **changes) -> Told:
    found = {
        "accuracy": 0.712,
        "neighbour_agreement": 0.712,
        "agreement": {"zero-shot": 0.9, "fused": 0.8, "linear-im": 0.7},
        "branches": 0.6,
        "fused_and_linear_im": 0.75,
        "confidence": 0.654,
        "class_shares": [0.5, 0.3, 0.2, 0.0],
        "source_shares": [0.25, 0.25, 0.25, 0.25],
        "total_variation": 0.3,
    } | changes
    result = {"estimate": found, "accuracy": scores, "calibration": {"temperature": 2.0}, "choice": choice}
    output = Told()
    spec = RunSpec("d", "e", "a", "b", "", 0, (), method_spec(), method=method)
    print_diagnostics(output, spec, result, ("w", "x", "y", "z"))
    return output


def test_a_target_without_labels_ends_with_what_can_be_known():
    output = told()
    assert output.results == [
        "  estimated accuracy 71.2; of auto's answers half of 54 trial pairs lay within 5 points, 90% within 10, the "
        "worst 20 off",
        "  answers shared with zero-shot 90.0%, fused 80.0%, linear-im 70.0%; VAC and LAC agree on 60.0%; mean "
        "calibrated probability 0.65",
        "  class shares 30.0% apart from the source's, most (source): w 50.0% (25.0%), z 0.0% (25.0%), x 30.0% (25.0%)",
    ]
    assert output.warnings == [] and told(scores={"last": {}}).results == []


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"branches": 0.31}, ["VAC and LAC disagree on 69.0% of the rows; do not trust these answers unseen"]),
        (
            {"agreement": {"zero-shot": 0.4, "fused": 0.5, "linear-im": 0.1}, "branches": None},
            [
                "unimos and zero-shot disagree on 60.0% of the rows; do not trust these answers unseen",
                "unimos and linear-im disagree on 90.0% of the rows; do not trust these answers unseen",
            ],
        ),
    ],
)
def test_disagreement_on_more_than_half_of_the_rows_is_a_warning(changes, warnings):
    assert told(**changes).warnings == warnings


def test_what_cannot_be_told_is_said():
    found = told(accuracy=None, fused_and_linear_im=0.42).results[0]
    assert (
        found
        == "  accuracy cannot be told: fused and linear-im answer 42.0% of rows alike; label about 50 rows to know"
    )
    one = told(accuracy=None, fused_and_linear_im=None).results[0]
    assert one == "  accuracy cannot be told: the source has rows of one class"


def test_auto_says_what_it_took_and_why():
    choice = {
        "selected": "ensemble3",
        "reason": "because",
        "warning": "is it so?",
        "agreements": {"fused": 0.6, "ensemble3": 0.7},
    }
    output = told("auto", choice, scores={"last": {}})
    assert output.results[0] == "  auto takes ensemble3: because (neighbour agreement: fused 60.0, ensemble3 70.0)"
    assert output.results[1].startswith("  estimated accuracy 71.2; ") and output.warnings == ["is it so?"]


def test_auto_on_a_folder_without_labels(cli, miniature, tmp_path):
    text = miniature.spec.read_text().replace("light = {}", 'light = { labels = "none" }')
    miniature.spec.write_text(text)
    args = miniature.args(tmp_path / "cache")
    assert cli("extract", *args, "--all", "--data-root", miniature.root).code == 0
    answer = cli("adapt", *args, "--src", "dark", "--tgt", "light", "--method", "auto", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    first, pick, *rest = answer.out.splitlines()
    assert re.fullmatch(r"dark -> light, auto \(transductive\): 24 rows without labels predicted in \d+\.\d s", first)
    assert re.match(
        r"  auto takes (linear-im|ensemble3|stata-fused): neighbours agree on linear-im's answers by ", pick
    )
    assert len(rest) == 4 and rest[-1].startswith("  class shares ")
