"""Benchmarks of stage one: results and output."""

import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from factories.runs import write_run

from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.bench import memory
from unimos_pipe.bench.extract import random_weights, sample_rows, smallest_cosine
from unimos_pipe.bench.store import write_random_domain
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.runs.read_run import read_run


def test_bench_extract_prints_every_figure(cli, miniature, tmp_path):
    answer = cli(
        "bench", "extract", *miniature.args(tmp_path), "--data-root", miniature.root, "--rounds", 1,
        "--baseline-images", 12, "--workers", 0, "--batch-size", 12, "--random-weights", "--encoder-precision", "fp32",
    )  # fmt: skip
    assert answer.code == 0
    for line in ("bare encoder", "decode and preprocess only", "end to end", "bound set by the first two"):
        assert re.search(rf"{line} +│ +[\d.]+ │ +[\d.]+%", answer.out), line
    assert re.search(
        r"end to end / bare, median of 1 pairs: [\d.]+%. Written [\d,]+ kB/s. Peak memory [\d,]+ MB", answer.out
    )
    cosine = re.search(r"smallest cosine to its features, means subtracted: ([\d.]+)", answer.out)
    assert re.search(
        r"tuned loop \(the same, channels_last, (bf16|no) autocast, 2 workers\): [\d.]+ images/s, ", answer.out
    )
    assert float(cosine[1]) > 0.999  # the same fp32 arithmetic; what differs is float16 storage


def test_bench_store_prints_its_ratio(cli):
    answer = cli("bench", "store", "--rows", 5000, "--dim", 16, "--rounds", 1)
    assert answer.code == 0
    assert re.fullmatch(
        r"5,000 x 16 float16: loaded and verified in \d+ ms, read in \d+ ms, [\d.]+ times \(median of 1 pairs\)\n",
        answer.out,
    )


def test_bench_memory_prints_every_trial(cli, monkeypatch):
    """In this process, which saves starts, and with a run that is not trained; only the figures are not the trials'."""

    def swept(recipe, features, folder):
        return SimpleNamespace(runs=[SimpleNamespace(folder=write_run(folder, recipe.pairs[0], dataset="icons"))])

    def reported(folder, out, cache):
        return SimpleNamespace(runs=len({read_run(path.parent).spec.seed for path in folder.rglob("result.json")}))

    known = SimpleNamespace(features=SimpleNamespace(dataset=load_spec("icons")))
    monkeypatch.setattr(memory, "run_in_subprocess", lambda work, *values: work(*values))
    monkeypatch.setattr("unimos_pipe.extract.extract_features.extract_features", lambda features: known)
    monkeypatch.setattr("unimos_pipe.experiments.sweep.run_sweep", swept)
    monkeypatch.setattr("unimos_pipe.report.make_report.make_report", reported)
    answer = cli("bench", "memory", "--images", 5, "--size", "icons", "--runs", 3)
    assert answer.code == 0
    found = re.findall(r"│ ([^│]+?) +│ +([\d,]+) MiB │ +[\d.]+ s │", answer.out)
    assert [what for what, _ in found] == [
        "extract, 5 images", "adapt, 624 + 716 rows, D = 128", "report, 3 runs",
    ]  # fmt: skip
    assert all(int(peak.replace(",", "")) > 50 for _, peak in found)


def test_a_trial_has_a_process_of_its_own():
    assert memory.run_in_subprocess(os.getppid) == os.getpid()


def test_the_made_up_domain_is_what_stage_one_would_write(tmp_path):
    found = write_random_domain(tmp_path, 100, 16, shard_size=30).domain("random")
    assert found.features.shape == (100, 16) and found.paths[99] == "b/image_000099.jpg"
    assert np.allclose(np.linalg.norm(found.features.astype(np.float32), axis=1), 1, atol=1e-3)


def test_smallest_cosine_sees_through_a_common_direction():
    """Rows that share one huge direction have a cosine near 1 whatever else they hold."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 8, generator=generator) for _ in range(2))
    ray = 1000 * torch.ones(8)
    assert torch.nn.functional.cosine_similarity(a + ray, b + ray).min() > 0.9999
    assert smallest_cosine(a + ray, b + ray) < 0
    assert smallest_cosine(a + ray, a + ray) == pytest.approx(1)
    assert smallest_cosine(a, a + ray) == pytest.approx(1, abs=1e-3) == smallest_cosine(a + ray, a)  # float32 of 1,000


def test_rows_of_all_domains_are_mixed_evenly(miniature):
    spec = load_spec(str(miniature.spec))
    rows = sample_rows([build_manifest(spec, name, miniature.root) for name in spec.domains], 12)
    assert len(rows) == 12 and rows.root == miniature.root
    assert sum(path.startswith("dark/") for path in rows.paths) == 6
    assert all((rows.root / path).stat().st_size == size for path, size in zip(rows.paths, rows.sizes, strict=True))


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(tmp_path):
    (tmp_path / "a").mkdir()
    before = torch.get_rng_state()
    paths = [random_weights("tinyclip-r24-64", folder) for folder in (tmp_path, tmp_path / "a")]
    assert paths[0].read_bytes() == paths[1].read_bytes() and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("cosine", "precision"), [(0.9995, "bf16"), (1.1, "fp32")])
def test_precision_auto_takes_16_bits_only_where_features_stay(cosine, precision, miniature, monkeypatch):
    from unimos_pipe.extract import encoder

    monkeypatch.setattr(encoder, "native_half_precision", lambda device: "bf16")
    monkeypatch.setattr(encoder, "MIN_COSINE", cosine)
    manifest = build_manifest(load_spec(str(miniature.spec)), "light", miniature.root)
    files = [manifest.root / path for path in manifest.paths]
    spec = EncoderSpec("tinyclip-r24-64", "embedded", "auto")
    found, evidence = encoder.load_encoder(spec, torch.device("cpu"), files)
    assert found.identity.precision == evidence.precision == precision
