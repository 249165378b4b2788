"""Published results are matched to pairs, and only for the encoder of the papers."""

import pytest
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.published_tables import find_published

OPENAI = "{}_openai_fp32-00000000"


def of(tmp_path, dataset: str, model: str, *pairs: str, encoder_id: str | None = None):
    for pair in pairs:
        write_run(tmp_path, pair, dataset=dataset, model=model, encoder_id=encoder_id or OPENAI.format(model))
    return find_published(find_runs([tmp_path])[0][0])


def test_office_home(tmp_path):
    found = of(tmp_path, "office_home", "RN50-quickgelu", "art->clipart", "real_world->product")
    assert found.pairs["art->clipart"]["UniMoS"] == pytest.approx(0.595)
    assert found.pairs["real_world->product"] == pytest.approx(
        {"CLIP zero-shot": 0.815, "DAPrompt": 0.838, "AD-CLIP": 0.855, "PADCLIP": 0.867, "UniMoS": 0.897, "DAMP": 0.899}
        | {"CMKD": 0.9, "CMKD with FixMatch": 0.904}
    )
    assert found.averages["UniMoS"] == pytest.approx(0.779) and found.ablations["no-im"] == pytest.approx(0.770)


def test_visda_is_a_mean_over_classes(tmp_path):
    found = of(tmp_path, "visda2017", "RN101-quickgelu", "synthetic->real")
    assert found.pairs["synthetic->real"]["UniMoS"] == pytest.approx(0.881)
    assert found.ablations["fixed-weight"] == pytest.approx(0.862)


def test_domainnet_is_printed_with_targets_in_rows(tmp_path):
    found = of(tmp_path, "domainnet", "ViT-B-16-quickgelu", "infograph->clipart", "clipart->quickdraw")
    assert found.pairs["infograph->clipart"] == pytest.approx({"CLIP zero-shot": 0.701, "UniMoS": 0.765})
    assert found.pairs["clipart->quickdraw"]["UniMoS"] == pytest.approx(0.25)


@pytest.mark.parametrize("dataset, encoder_id", [("office_home", "RN50-quickgelu_mine_fp32-0"), ("icons", None)])
def test_other_weights_and_data_sets_have_nothing_beside_them(tmp_path, dataset, encoder_id):
    found = of(tmp_path, dataset, "RN50-quickgelu", "art->clipart", encoder_id=encoder_id)
    assert (found.pairs, found.averages, found.ablations) == ({}, {}, {})
