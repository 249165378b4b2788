"""Labels that changed since the last extraction are told in words, by count and file."""

import numpy as np

from unimos_pipe.cache.domain_index import read_index
from unimos_pipe.cache.label_changes import describe_label_changes
from unimos_pipe.cache.unreadable_images import read_unreadable, write_unreadable
from unimos_pipe.data.dataset_spec import check_spec
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.run_label_changes import describe_run_label_changes


def test_what_differs_is_counted(tmp_path):
    spec = check_spec(
        {"name": "my", "classes": ("cat", "dog"), "domains": {"phone": {"root": "DCIM", "manifest": "my.phone.csv"}}},
        tmp_path / "my.toml",
    )
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM" / "new.jpg").touch()
    folder = tmp_path / "cache"
    write_unreadable(folder, [("-bad.jpg", "an empty file")])
    assert read_unreadable(folder) == {"-bad.jpg"} and read_unreadable(tmp_path) == set()
    same = "path,class\na.jpg,cat\nb.jpg,(unknown)\nc.jpg,\n./-bad.jpg,dog\ngone.jpg,dog\n"
    paths, labels = ("a.jpg", "b.jpg", "c.jpg"), np.array([0, -1, -1])
    table = tmp_path / "my.phone.csv"
    table.write_text(same)
    assert describe_label_changes(spec, "phone", folder, paths, labels) is None
    table.write_text(same.replace("a.jpg,cat", "a.jpg,dog").replace("c.jpg,", "new.jpg,"))
    assert describe_label_changes(spec, "phone", folder, paths, labels) == (
        "labels of phone changed since the last extract: 1 of 3 images have another class, 1 are no longer listed, "
        f"1 are new, in {table}"
    )


def test_adapt_and_predict_tell_it(cli, miniature, tmp_path):
    own, cache = tmp_path / "own.toml", tmp_path / "cache"
    domains = [f"--domain={name}={miniature.root / name}" for name in ("dark", "light")]
    assert cli("manifest", "scan", *domains, "-o", own, "--encoder", "tiny").code == 0
    options = ("--dataset", own, "--cache", cache)
    assert cli("extract", *options, "--all", "--workers", 0).code == 0
    pair = ("adapt", *options, "--src", "dark", "--tgt", "light", "--method", "zero-shot", "--out", tmp_path / "run")
    assert cli(*pair).code == 0
    table = tmp_path / "own.light.csv"
    table.write_text(table.read_text().replace("bar/0.png,bar", "bar/0.png,square"))
    assert describe_run_label_changes(read_run(tmp_path / "run")) == (
        f"labels of light changed since {tmp_path}/run was made: 1 of 24 images have another class in {table}. Run "
        "extract, then adapt, to use them"
    )
    answer = cli(*pair)
    changed = f"labels of light changed since the last extract: 1 of 24 images have another class, in {table}"
    assert (answer.code, answer.err) == (
        2,
        f"Error: {changed}. Run: unimos-pipe extract --dataset {own} --cache {cache} --domain light\n",
    )
    assert cli("extract", *options, "--all", "--workers", 0).code == 0
    answer = cli(*pair)
    assert "changed since the last extract" not in answer.err


def test_two_specs_of_one_name_share_no_cache(cli, miniature, tmp_path):
    cache = tmp_path / "cache"
    for number, name in enumerate(("dark", "light")):
        spec = tmp_path / str(number) / "my.toml"
        assert cli("manifest", "scan", f"--domain=x={miniature.root / name}", "-o", spec, "--encoder", "tiny").code == 0
        assert cli("extract", "--dataset", spec, "--all", "--cache", cache, "--workers", 0).code == 0
    indexes = [read_index(path.parent) for path in sorted(cache.glob("my-*/*/x/domain.json"))]
    assert len(indexes) == 2 and indexes[0].shards != indexes[1].shards
