"""Recipes: what they expand to, and all their faults at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.runs.method_names import METHODS
from unimos_pipe.runs.read_recipe import check_recipe, known_recipes, load_recipe
from unimos_pipe.runs.recipe import MAX_RUNS
from unimos_pipe.runs.run_spec import calibration_options, row_names


def test_the_ablation_recipe_is_252_runs():
    recipe, spec = load_recipe("icons_ablation")
    runs = recipe.runs(spec, "encoder")
    assert len(runs) == len({run.folder(Path("runs")) for run in runs}) == 252
    assert [run.label() for run in runs[::36]] == list(recipe.variants)
    assert (runs[0].source, runs[0].target, runs[0].seed) == ("line", "solid", 0)
    assert runs[36 * 3].options.loss.im is False


def test_grids_multiply_and_label_their_cells():
    values = {
        "name": "g",
        "dataset": "icons",
        "pairs": ["line->solid"],
        "seeds": 1,
        "options": {"train": {"epochs": 2}},
    }
    recipe, spec = check_recipe(values | {"grid": {"loss.alpha": [0.1, 1.0], "loss.beta": [0.5, 2.0]}}, "here")
    runs = recipe.runs(spec, "e")
    assert row_names(runs) == [f"full,alpha={a},beta={b}" for a in (0.1, 1.0) for b in (0.5, 2.0)]
    assert [run.label() for run in runs][1:3] == ["full,alpha=0.1,beta=2.0,epochs=2", "full,beta=0.5,epochs=2"]
    assert [(run.options.loss.alpha, run.options.loss.beta, run.options.train.epochs) for run in runs] == [
        (0.1, 0.5, 2),
        (0.1, 2.0, 2),
        (1.0, 0.5, 2),
        (1.0, 2.0, 2),
    ]


def test_a_grid_takes_nested_tables():
    values = {"name": "g", "dataset": "icons"}
    flat = check_recipe(values | {"grid": {"loss.alpha": [0.1, 1.0], "train.lr": [0.1]}}, "here")[0]
    assert check_recipe(values | {"grid": {"loss": {"alpha": [0.1, 1.0]}, "train.lr": [0.1]}}, "here")[0] == flat
    for grid, fault in (
        ({"loss.alpha": [1.0], "loss": {"alpha": [2.0]}}, "grid loss.alpha is given twice"),
        ({"loss": {"alpha": {"x": 1}}}, "grid loss.alpha: expected a list of values, got {'x': 1}"),
        ({"los": {"alpha": [1.0]}}, "unknown grid option los.alpha (did you mean loss.alpha? known: "),
    ):
        with pytest.raises(InputError) as caught:
            check_recipe(values | {"grid": grid}, "here")
        assert str(caught.value).startswith(f"here: {fault}")


def test_every_fault_is_named_at_once():
    values = {
        "name": "bad name",
        "dataset": "icons",
        "encoder": "RN49",
        "views": ["top"],
        "descriptions": "absent.json",
        "pairs": ["line->line", "line->oil"],
        "seeds": 0,
        "variants": ["full", "no-luck", "no-im"],
        "options": {"loss": {"im": True, "gama": 1}},
        "grid": {"loss.alpha": [-1.0], "loss.omega": [1]},
    }
    with pytest.raises(InputError) as caught:
        check_recipe(values, "r.toml")
    message = str(caught.value)
    for fault in (
        "r.toml: seeds: expected at least 1, got 0; ",
        "name 'bad name': expected letters, digits, '-' and '_'; ",
        "unknown encoder 'RN49' (known: tiny, RN50, RN101, ViT-B-16, ViT-L-14, ",
        "views: expected one or more of center, flip, corners, each once, got 'top'; ",
        "descriptions absent.json: No such file or directory; ",
        "unknown variant no-luck (known: full, no-ortho, no-debias, no-im, no-distill, fixed-weight, ",
        "unknown options.loss.gama (did you mean options.loss.gamma? known: options.loss.alpha, ",
        "grid loss.alpha: expected at least 0.0, got -1.0; ",
        "unknown grid option loss.omega (did you mean loss.beta? known: heads.bottleneck_dim, ",
        "variant no-im is defined by loss.im; do not set it as well; ",
        "pair 'line->line': expected \"source->target\" with two domains; ",
        "pair 'line->oil': data set icons has no domain 'oil'; known: line, solid, color, sketch",
    ):
        assert fault in message, fault
    assert "\n" not in message


def test_what_is_listed_twice_and_sizes_without_end_are_faults():
    values = {"name": "x", "dataset": "icons", "seeds": 10**9, "variants": ["full", "full"]}
    values |= {"pairs": ["line->solid", "line -> solid"], "grid": {"loss.alpha": [1, 1.0]}}
    with pytest.raises(InputError) as caught:
        check_recipe(values, "r.toml")
    assert str(caught.value) == (
        "r.toml: variant full is listed twice; grid loss.alpha: 1 is listed twice; pair 'line->solid' is listed twice; "
        "8000000000 runs (pairs x seeds x variants x grid): expected at most 100000"
    )
    values = {"name": "x", "dataset": "icons", "pairs": ["line->solid"], "seeds": MAX_RUNS}
    assert check_recipe(values, "r.toml")[0].seeds == MAX_RUNS
    with pytest.raises(InputError, match=f"^r.toml: {MAX_RUNS + 1} runs "):
        check_recipe(values | {"seeds": MAX_RUNS + 1}, "r.toml")
    recipe, spec = check_recipe({"name": "x", "dataset": "icons"}, "r.toml")
    with pytest.raises(InputError) as caught:
        replace(recipe, seeds=10**9).runs(spec, "e")
    assert str(caught.value) == (
        "recipe x: 12000000000 runs (pairs x seeds x variants x grid): expected at most 100000"
    )


def test_unknown_recipes_and_keys(tmp_path):
    with pytest.raises(InputError, match=r"unknown recipe 'nothing'; known: .*icons_ablation.*; or give a .toml file"):
        load_recipe("nothing")
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\ndataset = "icons"\nsedes = 3\n')
    with pytest.raises(
        InputError,
        match=r"r.toml: unknown sedes \(did you mean seeds\? known: name, dataset, title, ",
    ):
        load_recipe(str(path))
    path.write_text("name = [")
    with pytest.raises(InputError, match=r"^recipe .*r.toml: cannot be read: "):
        load_recipe(str(path))


@pytest.mark.parametrize("name", sorted(known_recipes()))
def test_every_recipe_that_ships_is_sound(name):
    recipe, spec = load_recipe(name)
    assert recipe.name == name
    tuned = recipe.seeds * len(recipe.variants) * len(recipe.grid_cells()) if "unimos" in recipe.methods else 0
    quick = len([name for name in recipe.methods if name != "unimos"])
    assert len(recipe.runs(spec, "e")) == recipe.count_runs(spec) == len(recipe.domain_pairs(spec)) * (tuned + quick)


def test_methods_beside_unimos_make_one_run_a_pair():
    values = {"name": "m", "dataset": "icons", "seeds": 3, "variants": ["full", "no-im"], "label_set": "partial"}
    recipe, spec = check_recipe(values | {"methods": ["fused", "unimos", "auto"]}, "here")
    runs = recipe.runs(spec, "e")
    assert len(runs) == len({run.folder(Path("runs")) for run in runs}) == 12 * (1 + 6 + 1)
    assert list(dict.fromkeys(run.label() for run in runs)) == ["fused", "full", "no-im", "auto,partial-set"]
    assert list(dict.fromkeys(row_names(runs))) == ["fused", "UniMoS", "UniMoS, no-im", "auto"]
    assert {run.seed for run in runs if run.method != "unimos"} == {0}


def test_what_no_method_of_the_recipe_reads_is_a_fault():
    values = {"name": "m", "dataset": "domainnet", "methods": ["fused", "stata", "best", "fused"]}
    values |= {"variants": ["no-im"], "options": {"train": {"epochs": 3}}, "label_set": "partial"}
    with pytest.raises(InputError) as caught:
        check_recipe(values, "r.toml")
    known = ", ".join(METHODS)
    assert str(caught.value) == (
        f"r.toml: unknown method best (known: {known}); method fused is listed twice; variants, options: only unimos "
        "has such options, and it is not among methods; label_set: only auto asks for it, and it is not among methods"
    )


def test_labels_and_unknown_rows_are_options_of_every_run():
    values = {"name": "m", "dataset": "icons", "methods": ["fused", "unimos"], "seeds": 1}
    recipe, spec = check_recipe(values | {"use_target_labels": True, "unknown": "auto"}, "here")
    assert {run.label() for run in recipe.runs(spec, "e")} == {
        "fused,target-labels,unknown",
        "full,target-labels,unknown",
    }
    with pytest.raises(InputError) as caught:
        check_recipe(values | {"methods": ["zlap"], "use_target_labels": True, "unknown": "some"}, "r.toml")
    assert str(caught.value) == (
        "r.toml: use_target_labels: zlap learns from no labels; unknown: expected off, auto or a share from 0 to below "
        "1, got 'some'"
    )


def test_validators_that_cannot_select_a_headline_are_faults():
    values = {"name": "m", "dataset": "icons", "grid": {"loss.alpha": [0.1, 1.0]}}
    with pytest.raises(InputError) as caught:
        check_recipe(values | {"select": "sorce"}, "r.toml")
    assert str(caught.value) == (
        "r.toml: select: no validator 'sorce'; did you mean source? known: im, entropy, bnm, snd, source, dev, rankme, "
        "agreement, ensv"
    )
    with pytest.raises(InputError) as caught:
        check_recipe(values | {"select": "dev"}, "r.toml")
    wanted = "r.toml: select: dev needs held-out source rows; set options.train.source_holdout, such as 0.2"
    assert str(caught.value) == wanted
    recipe, _ = check_recipe(values | {"select": "dev", "options": {"train": {"source_holdout": 0.2}}}, "r.toml")
    assert recipe.select == "dev"


def test_sources_of_several_domains():
    """In the data set's order however they are written; leave-one-out takes every other domain."""
    values = {"name": "x", "dataset": "icons", "pairs": ["sketch + line->color", "solid->line"]}
    recipe, spec = check_recipe(values, "here")
    assert recipe.domain_pairs(spec) == [("line+sketch", "color"), ("solid", "line")]
    assert recipe.domains(spec) == ["line", "solid", "color", "sketch"]
    assert recipe.runs(spec, "e")[0].folder(Path("r")) == Path("r/icons/e/line+sketch-color/full/seed0")
    recipe, spec = check_recipe({"name": "x", "dataset": "icons", "pairs": "leave-one-out"}, "here")
    assert recipe.domain_pairs(spec)[0] == ("solid+color+sketch", "line")
    assert recipe.domain_pairs(spec)[3] == ("line+solid+color", "sketch")
    assert len(recipe.runs(spec, "e")) == 12


def test_faults_of_sources():
    pairs = ["line+oil->color", "line+line->color", "line+color->color", "line+sketch->color", "sketch+line->color"]
    with pytest.raises(InputError) as caught:
        check_recipe({"name": "x", "dataset": "icons", "pairs": pairs}, "here")
    assert str(caught.value) == (
        "here: pair 'line+oil->color': data set icons has no domain 'oil'; known: line, solid, color, sketch; "
        "pair 'line+line->color': source 'line+line' names a domain twice; "
        "pair 'line+color->color': target 'color' is one of the sources 'line+color'; adaptation needs another domain; "
        "pair 'line+sketch->color' is listed twice"
    )


def test_published_tables_are_made_with_the_steps_of_the_released_code():
    """`train.min_steps` raises no run's steps, however many rows calibration holds back."""
    recipes = [load_recipe(name) for name in known_recipes()]
    published = [(recipe, spec) for recipe, spec in recipes if recipe.published_table]
    assert len(published) >= 12 and all("train.min_steps" not in recipe.options_of("unimos") for recipe, _ in published)
    counts = {domain.train_images or domain.images for _, spec in published for domain in spec.domains.values()}
    least = min(counts - {0})  # Mini-DomainNet's lists have no count: several thousand rows
    options = calibration_options(method_spec()).train
    kept = least - int(options.source_holdout * least)
    assert kept // options.batch_size >= options.min_steps == 10
