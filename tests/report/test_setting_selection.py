"""Settings selected without labels: picks, differences, regret and the recipe's select, by hand."""

import pytest
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.headline import headline
from unimos_pipe.report.published_tables import PublishedResults
from unimos_pipe.report.setting_scores import ensv_scores
from unimos_pipe.report.setting_selection import setting_selection_tables
from unimos_pipe.runs.read_run import read_run

PAIRS = ("dark->light", "light->dark")
ACCURACY = {0.1: (0.50, 0.60), 1.0: (0.62, 0.64), 2.5: (0.70, 0.58)}  # alpha -> by pair
SCORES = {  # alpha -> validator -> by pair
    0.1: {"im": (0.1, 0.9), "source": (0.2, 0.2)},
    1.0: {"im": (0.2, 0.5), "source": (0.5, 0.5)},
    2.5: {"im": (0.9, 0.1), "source": (0.9, 0.4)},
}


@pytest.fixture
def folder(tmp_path):
    for place, pair in enumerate(PAIRS):
        for alpha, accuracy in ACCURACY.items():
            changed = {} if alpha == 1.0 else {"loss.alpha": alpha}
            scores = {name: values[place] for name, values in SCORES[alpha].items()}
            write_run(tmp_path, pair, changed=changed, last=accuracy[place], more={"validators": scores})
    return tmp_path


def test_picks_and_regret_of_every_validator(folder):
    (table,) = setting_selection_tables(find_runs([folder])[0][0])
    assert table.columns[:5] == ("selected by", "accuracy", "vs default", "regret, mean", "worst pair")
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["default: UniMoS, alpha=1.0"] == ["63.0", "", "4.0", "8.0", "UniMoS, alpha=1.0", "63.0"]
    assert rows["im"][:4] == ["65.0", "+2.0 [−74.2, 78.2]", "2.0", "4.0"]  # 0.70 and 0.60
    assert rows["im"][4:] == ["UniMoS, alpha=0.1", "55.0"]  # mean scores 0.5, 0.35 and 0.5: the first of equals
    assert rows["source"] == ["67.0", "+4.0 [−46.8, 54.8]", "0.0", "0.0", "UniMoS, alpha=2.5", "64.0"]
    assert rows["oracle"][0] == "67.0" and rows["oracle"][2:4] == ["0.0", "0.0"]


def test_a_recipe_may_select_its_headline(folder):
    (folder / "recipe.json").write_text('{"name": "r", "dataset": "mini", "select": "source"}')
    experiment = find_runs([folder])[0][0]
    assert experiment.default_setting_name == "UniMoS, alpha=2.5 (selected by source)"
    table = headline(experiment, PublishedResults())
    assert table.columns[1] == "UniMoS, alpha=2.5 (selected by source)"
    assert [row[1].text for row in (*table.rows, *table.footer)] == ["70.0", "58.0", "64.0"]


def test_ensv_counts_agreement_with_the_mean(tmp_path):
    answers = {"fused": "aab", "gda": "abb", "zlap": "bbb"}
    runs = {}
    for name, classes in answers.items():
        rows = [(f"{i}.png", c, 0.8, c, 0.8, c, 0.8, c) for i, c in enumerate(classes)]
        runs[name] = [read_run(write_run(tmp_path, method=name, classes=("a", "b"), rows=rows))]
    # the means are a: 0.6, 0.4, 0.2, so that the candidates together answer a, b, b
    assert ensv_scores(runs) == pytest.approx({"fused": 2 / 3, "gda": 1.0, "zlap": 2 / 3})
