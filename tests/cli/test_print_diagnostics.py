"""What adapt says beside a run's figures: auto's pick, what is known without labels, and warnings."""

import re

import pytest
from factories.runs import run_spec

from unimos_pipe.base.record_parsing import parse_record
from unimos_pipe.cli.print_diagnostics import print_diagnostics
from unimos_pipe.runs.run_values import RunMetrics


class Told:
    """In the place of the output."""

    def __init__(self):
        self.results, self.warnings = [], []
        self.result, self.warn = self.results.append, self.warnings.append


def told(method: str = "unimos", choice=None, scores=None, **changes) -> Told:
    found = {
        "accuracy": 0.712,
        "low": 0.612,
        "high": 0.812,
        "reason": None,
        "neighbour_agreement": 0.712,
        "agreement": {"zero-shot": 0.9, "fused": 0.8, "stacked": 0.7},
        "branches": 0.6,
        "confidence": 0.654,
        "class_shares": [0.5, 0.3, 0.2, 0.0],
        "source_shares": [0.25, 0.25, 0.25, 0.25],
        "total_variation": 0.3,
    } | changes
    result = {"metric": "accuracy", "seconds": 1.0, "estimate": found, "accuracy": scores}
    result |= {"calibration": {"temperature": 2.0}, "choice": choice}
    output = Told()
    spec = run_spec(source="a", target="b", variant="", method=method)
    print_diagnostics(output, spec, parse_record(RunMetrics, result), ("w", "x", "y", "z"))
    return output


def test_a_target_without_labels_ends_with_what_can_be_known():
    output = told()
    assert output.results == [
        "  estimated accuracy 71.2, from 61.2 to 81.2; on 422 trial pairs the range held 95% of the accuracies of auto"
        ", it was not measured for unimos",
        "  agreement with zero-shot 90.0%, fused 80.0%, stacked 70.0%; VAC and LAC agree on 60.0%; mean "
        "calibrated probability 0.65",
        "  class shares differ by 30.0% from the source's, most (source): w 50.0% (25.0%), z 0.0% (25.0%), "
        "x 30.0% (25.0%)",
    ]
    assert (
        output.warnings == [] and told(scores={"last": {"accuracy": 0.5}, "zero_shot": {"accuracy": 0.4}}).results == []
    )


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        (
            {"outvoted": 0.151, "branches": None},
            ["on 15.1% of the rows zero-shot and stacked agree on another class than unimos; try --method auto"],
        ),
        (
            {"outvoted": 0.15, "branches": 0.31},
            ["VAC and LAC disagree on 69.0% of the rows; check a sample before using these predictions"],
        ),
        (
            {"agreement": {"zero-shot": 0.4, "fused": 0.5, "stacked": 0.1}, "branches": None},
            [
                "unimos and zero-shot disagree on 60.0% of the rows; check a sample before using these predictions",
                "unimos and stacked disagree on 90.0% of the rows; check a sample before using these predictions",
            ],
        ),
    ],
)
def test_disagreement_on_more_than_half_of_the_rows_is_a_warning(changes, warnings):
    assert told(**changes).warnings == warnings


def test_what_cannot_be_estimated_is_said():
    found = told(accuracy=None, reason="two estimates disagree, 43% and 71%").results[0]
    assert found == (
        "  accuracy cannot be estimated: two estimates disagree, 43% and 71%; label about 50 images to measure it"
    )


def test_auto_says_what_it_did():
    choice = {"reason": "because", "head_agreement": 0.99, "text_agreement": 0.8}
    output = told("auto", choice, scores={"last": {"accuracy": 0.5}, "zero_shot": {"accuracy": 0.4}})
    assert output.results[0] == "  auto: because"
    assert output.results[1:] == [
        "  estimated accuracy 71.2, from 61.2 to 81.2; on 422 trial pairs the range held 95% of the accuracies of auto"
    ]
    assert output.warnings == []
    without_labels = told("auto", choice).results
    assert len([line for line in without_labels if "estimated accuracy" in line]) == 1 and len(without_labels) == 4


def test_auto_on_a_folder_without_labels(cli, miniature, tmp_path):
    text = miniature.spec.read_text().replace("light = {}", 'light = { labels = "none" }')
    miniature.spec.write_text(text)
    args = miniature.args(tmp_path / "cache")
    assert cli("extract", *args, "--all", "--data-root", miniature.root).code == 0
    answer = cli("adapt", *args, "--src", "dark", "--tgt", "light", "--method", "auto", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    first, pick, *rest = answer.out.splitlines()
    assert re.fullmatch(r"dark -> light, auto \(transductive\): 24 rows without labels predicted in \d+\.\d s", first)
    assert re.match(r"  auto: \d+% of the images keep the class that the text alone gives them; for the other ", pick)
    assert len(rest) == 3 and rest[-1].startswith("  class shares ")
