"""Mistakes that a test must catch, kept as patches: each is made in a copy of the package, and its test fails there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MISTAKES = Path(__file__).parent / "mistakes"
CAUGHT_BY = {
    "labels-of-another-run": "methods/test_stacks_and_options.py::"
    "test_pairs_that_share_domains_in_both_roles_train_as_alone",
    "text-of-another-run": "methods/test_fused_teacher.py::"
    "test_a_stack_keeps_each_runs_text_and_fits_a_probe_per_source",
    "sources-drawn-as-one": "methods/test_random_streams.py::test_a_batch_holds_as_many_rows_of_each_domain",
    "identity-without-shards": "runs/test_run_spec.py::test_everything_that_shapes_a_run_is_in_its_identity",
    "stack-key-without-form": "methods/test_stacks_and_options.py::"
    "test_every_option_acts_and_does_so_in_a_stack_as_alone",
    "dropout-not-rescaled": "integration/test_reference.py::test_twenty_steps_agree_with_the_plain_program",
    "targets-masks-are-the-sources": "integration/test_reference.py::test_twenty_steps_agree_with_the_plain_program",
    "validator-picks-the-worst": "evaluation/test_metrics.py::test_a_validator_picks_the_epoch_it_scores_highest",
    "oracle-ignores-the-metric": "evaluation/test_metrics.py::test_the_oracle_goes_by_the_data_sets_own_figure",
    "absent-class-counts-as-zero": "evaluation/test_metrics.py::test_a_class_without_a_row_stays_out_of_the_class_mean",
    "divergence-by-losses-alone": "methods/test_trainer.py::"
    "test_probabilities_that_are_not_finite_are_a_failure_though_the_losses_are",
    "step-waits-for-the-device": "methods/test_without_a_gpu.py::"
    "test_an_epoch_sends_its_steps_off_and_an_evaluation_waits_once",
    "evaluation-reads-value-by-value": "methods/test_without_a_gpu.py::"
    "test_an_epoch_sends_its_steps_off_and_an_evaluation_waits_once",
    "precision-by-the-mean-cosine": "extract/test_encoder.py::test_automatic_precision_goes_by_the_worst_image",
    "features-waited-for": "extract/test_in_flight.py::test_a_batch_comes_back_while_the_next_one_is_encoded",
    "item-in-the-encoder": "extract/test_in_flight.py::test_a_batch_comes_back_while_the_next_one_is_encoded",
    "no-batch-in-flight": "extract/test_in_flight.py::test_a_batch_comes_back_while_the_next_one_is_encoded",
    "rename-replaced-by-a-copy": "base/test_atomic_io.py::"
    "test_the_file_that_was_written_takes_the_name_and_is_on_disk_before_it_does",
    "no-fsync": "base/test_atomic_io.py::test_the_file_that_was_written_takes_the_name_and_is_on_disk_before_it_does",
}


def outcome(package: Path, test: str) -> tuple[int, str]:
    """pytest's exit code and output for one test, with the package found in a folder."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROJECT / "tests" / test)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_every_mistake_has_its_test():
    assert {path.stem for path in MISTAKES.glob("*.patch")} == set(CAUGHT_BY)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", CAUGHT_BY)
def test_the_mistake_is_caught(mistake, tmp_path):
    """The test passes on an untouched copy and fails, by an assertion or the code's own error, on the mistaken one."""
    for folder in ("unimos_pipe", "data_manifests", "pipelines"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code, text = outcome(tmp_path, CAUGHT_BY[mistake])
    assert code == 0, text
    patch = (MISTAKES / f"{mistake}.patch").read_bytes()
    subprocess.run(["git", "apply", "-"], input=patch, cwd=tmp_path, check=True)
    code, text = outcome(tmp_path, CAUGHT_BY[mistake])
    assert code == 1 and "FAILED" in text, text
