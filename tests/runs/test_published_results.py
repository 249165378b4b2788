"""Published figures: as printed, by pair, for every recipe that names a table."""

import statistics

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.runs.published_results import load_published_rows
from unimos_pipe.runs.read_recipe import known_recipes, load_recipe
from unimos_pipe.runs.run_spec import row_names


def rows(table, dataset):
    return {row.label: row for row in load_published_rows(table, load_spec(dataset))}


def test_office_home():
    found = rows("office_home.RN50", "office_home")
    assert found["UniMoS"].values["art->clipart"] == 0.595
    assert found["UniMoS"].values["real_world->product"] == 0.897
    assert found["UniMoS"].average == 0.779
    for row in found.values():
        assert statistics.mean(row.values.values()) == pytest.approx(row.average, abs=6e-4)
    assert rows("office_home.ViT-L-14", "office_home")["UniMoS"].values == {}


def test_further_rows_and_encoders():
    found = rows("office_home.ViT-B-16", "office_home")
    assert found["CMKD"].values["art->clipart"] == 0.794 and found["CMKD with FixMatch"].average == 0.89
    assert rows("visda2017.ViT-B-16", "visda2017")["DAMP"].average == 0.909
    assert rows("office31.RN50", "office31")["CMKD"].average == 0.909
    assert rows("office31.ViT-L-14-336", "office31")["cross-modal probe"].average == 0.932


def test_visda_is_a_mean_over_classes():
    assert rows("visda2017.RN101", "visda2017")["UniMoS"].values == {"synthetic->real": 0.881}


def test_domainnet_has_targets_in_rows():
    found = rows("domainnet.ViT-B-16", "domainnet")
    assert len(found["UniMoS"].values) == len(found["CLIP zero-shot"].values) == 30
    assert found["UniMoS"].values["infograph->clipart"] == 0.765
    assert found["UniMoS"].values["clipart->infograph"] == 0.551
    assert found["CLIP zero-shot"].values["clipart->infograph"] == 0.464


def test_mini_domainnet():
    assert rows("mini_domainnet.RN50", "mini_domainnet")["DAMP"].values["clipart->painting"] == 0.767
    assert rows("mini_domainnet.RN50", "mini_domainnet")["UniMoS"].average == 0.78


def test_ablations_and_grids_carry_the_labels_of_our_runs():
    ablation = rows("ablation.visda2017", "visda2017")
    assert (ablation["full"].average, ablation["fixed-weight"].average) == (0.881, 0.862)
    grid = rows("sensitivity.visda2017", "visda2017")
    assert grid["full,alpha=0.001,beta=0.1"].average == 0.881
    assert grid["full,alpha=0.1,beta=0.001"].average == 0.875


@pytest.mark.parametrize("name", sorted(known_recipes()))
def test_labels_meet_those_of_the_recipes_runs(name):
    recipe, spec = load_recipe(name)
    if recipe.published_table.partition(".")[0] in ("ablation", "sensitivity"):
        ours = set(row_names(recipe.runs(spec, "x")))
        assert {row.label for row in load_published_rows(recipe.published_table, spec)} == ours
    if recipe.dataset == "visda2017" and not recipe.grid:
        assert {(run.options.loss.alpha, run.options.loss.beta) for run in recipe.runs(spec, "x")} == {(0.001, 0.1)}
        assert {(run.options.train.epochs, run.options.train.lr) for run in recipe.runs(spec, "x")} == {(10, 0.0009)}


def test_an_unknown_table():
    with pytest.raises(
        InputError,
        match=r"no published table 'office_home.RN51'; did you mean office_home.RN50\? known: office_home.RN50",
    ):
        load_published_rows("office_home.RN51", load_spec("office_home"))
