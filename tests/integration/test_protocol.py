"""Inductive runs: nothing of the target's test rows reaches the trainer, and figures say which protocol they are."""

import json

import pytest

from unimos_pipe.data.dataset_spec import load_spec


@pytest.fixture
def split(cli, miniature, tmp_path):
    """The miniature with train and test lists: of 8 images per class, the last two are test rows."""
    for domain in ("dark", "light"):
        for name, rows in (("train", range(6)), ("test", (6, 7))):
            lines = [
                f"{domain}/{shape}/{index}.png {label}\n"
                for label, shape in enumerate(("circle", "square", "bar"))
                for index in rows
            ]
            (miniature.root / f"{domain}_{name}.txt").write_text("".join(lines))
    spec = tmp_path / "split.toml"
    entry = '{ folder = ["."], train = ["DOMAIN_train.txt"], test = ["DOMAIN_test.txt"] }\n'
    spec.write_text(
        'name = "split"\nclasses = ["circle", "square", "bar"]\nencoder = "tiny"\n[domains]\n'
        + "".join(f"{domain} = {entry.replace('DOMAIN', domain)}" for domain in ("dark", "light"))
    )
    return spec


def run(cli, spec, root, cache, out, *options):
    assert cli("extract", "--dataset", spec, "--all", "--cache", cache, "--data-root", root, "--workers", 0).code == 0
    answer = cli(
        *("adapt", "--dataset", spec, "--cache", cache, "--src", "dark", "--tgt", "light", "--epochs", 3),
        *("--out", out, *options),
    )
    assert answer.code == 0, answer.err
    return answer, json.loads((out / "result.json").read_text())


def trained(folder):
    """What training left behind: the weights, and of each epoch all but the scores."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: line[key] for key in ("epoch", "losses", "train_weight", "validators")} for line in lines]
    return (folder / "heads.safetensors").read_bytes(), kept


def test_test_rows_are_only_scored(cli, split, miniature, tmp_path):
    """With other test images of the target, and other test labels, everything learned stays the same to the bit."""
    answer, first = run(cli, split, miniature.root, tmp_path / "c1", tmp_path / "r1")
    assert "dark -> light, full,inductive,epochs=3, seed 0 (inductive): accuracy UniMoS " in answer.out
    assert (first["protocol"], first["source_rows"], first["target_rows"], first["scored_rows"]) == (
        "inductive",
        18,
        18,
        6,
    )
    for label, shape in enumerate(("circle", "square", "bar")):
        for index in (6, 7):
            other = ("circle", "square", "bar")[(label + 1) % 3]
            path = miniature.root / "light" / shape / f"{index}.png"
            path.write_bytes((miniature.root / "light" / other / "0.png").read_bytes())
    _, second = run(cli, split, miniature.root, tmp_path / "c2", tmp_path / "r2")
    assert trained(tmp_path / "r1") == trained(tmp_path / "r2")
    assert (tmp_path / "r1/predictions.csv").read_bytes() != (tmp_path / "r2/predictions.csv").read_bytes()
    assert first["selected"].keys() == second["selected"].keys()
    assert [pick["epoch"] for pick in first["selected"].values()] == [
        pick["epoch"] for pick in second["selected"].values()
    ]


def test_transductive_learns_from_every_row(cli, split, miniature, tmp_path):
    answer, result = run(cli, split, miniature.root, tmp_path / "c", tmp_path / "r", "--protocol", "transductive")
    assert "seed 0 (transductive): accuracy" in answer.out
    assert (result["protocol"], result["target_rows"], result["scored_rows"]) == ("transductive", 24, 24)


def test_the_two_never_share_a_folder_or_a_table(cli, split, miniature, no_figures, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'name = "r"\ndataset = "{split}"\nseeds = 1\n[options.train]\nepochs = 2\n')
    place = ("--cache", tmp_path / "c", "--runs", tmp_path / "runs")
    both = [
        cli("run", recipe, "--data-root", miniature.root, *place, "--workers", 0),
        cli("sweep", recipe, *place, "--protocol", "transductive"),
    ]
    assert [answer.code for answer in both] == [0, 0], both
    titles = [" ".join(answer.out.partition("┏")[0].split()) for answer in both]
    assert titles[0] == "r: target accuracy in %, last epoch unless named otherwise, inductive"
    assert titles[1] == "r: target accuracy in %, last epoch unless named otherwise, transductive"
    labels = sorted(path.parent.parent.name for path in (tmp_path / "runs").rglob("result.json"))
    assert labels == ["full,epochs=2", "full,epochs=2", "full,inductive,epochs=2", "full,inductive,epochs=2"]


def test_splits_are_needed(cli, icons_cache):
    answer = cli("adapt", "--dataset", "icons", "--cache", icons_cache, "--src", "line", "--tgt", "solid",
                 "--protocol", "inductive")  # fmt: skip
    assert (answer.code, answer.err) == (
        2,
        "Error: icons has no train and test splits, so --protocol can only be transductive\n",
    )


def test_recipes_say_which_protocol_they_take():
    from unimos_pipe.runs.read_recipe import known_recipes, load_recipe

    inductive = {name for name in known_recipes() if load_recipe(name)[0].protocol == "inductive"}
    assert inductive == {"domainnet_vitb16", "mini_domainnet_rn50", "mini_domainnet_vitb16"}
    assert all(load_spec(load_recipe(name)[0].dataset).protocol() == "inductive" for name in inductive)
