"""Tables of synthetic runs, compared cell by cell."""

import pytest
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.headline import headline
from unimos_pipe.report.published_tables import PublishedResults
from unimos_pipe.report.significance import PairedDifference
from unimos_pipe.report.table import Table, change_cell, correct_tests, mean_cell, name_cell
from unimos_pipe.report.unimos_tables import ablation_table, matrix_table, selection_table
from unimos_pipe.runs.statistics import MeanStd


def texts(rows) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]


@pytest.fixture
def experiment(tmp_path):
    for seed, last in ((0, 0.70), (1, 0.74)):
        write_run(tmp_path, "dark->light", seed=seed, last=last, zero_shot=0.6)
        write_run(tmp_path, "light->dark", seed=seed, last=last - 0.2, zero_shot=0.55, oracle=0.6)
        write_run(tmp_path, "dark->light", seed=seed, last=last - 0.1, variant="no-im")
    found = find_runs([tmp_path])[0][0]
    found.baselines = {"dark->light": 0.5}
    return found


def test_headline(experiment):
    table = headline(experiment, PublishedResults())
    assert table.columns == ("pair", "UniMoS", "gain", "zero-shot", "source-probe", "class mean", "oracle best")
    assert texts(table.rows) == [
        ["dark → light", "72.0 ± 2.8", "+12.0 [−13.4, 37.4]", "60.0", "50.0", "72.0 ± 2.8", "80.0 ± 0.0"],
        ["light → dark", "52.0 ± 2.8", "−3.0 [−28.4, 22.4]", "55.0", "–", "52.0 ± 2.8", "60.0 ± 0.0"],
    ]
    assert texts(table.footer) == [
        ["mean of 2", "62.0 ± 2.8", "+4.5 [−90.8, 99.8]", "57.5", "–", "62.0 ± 2.8", "70.0 ± 0.0"]
    ]
    assert [row[2].sign for row in table.rows] == ["even", "even"] and table.rows[0][-1].kind == "oracle"


def test_a_variant_of_ours_stands_beside_the_papers(experiment, tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "dark->light", seed=seed, last=0.75 + seed / 50, variant="fused-teacher")
        changed = {"train.epochs": 2}
        write_run(tmp_path, "dark->light", seed=seed, variant="fused-teacher", changed=changed)
    found = find_runs([tmp_path])[0][0]
    table = headline(found, PublishedResults())
    ours = "UniMoS, fused-teacher (ours), epochs=50"
    assert table.columns[:5] == ("pair", "UniMoS, epochs=50", "gain", ours, "zero-shot")
    assert [row[3].text for row in (*table.rows, *table.footer)] == ["76.0 ± 1.4", "–", "–"]
    assert table.caption.endswith(" (ours): an extension of UniMoS that is not in the paper.")
    names = [row[0].text for row in ablation_table(found, PublishedResults()).rows]
    assert names == ["full", "fused-teacher (ours)", "no-im"]


def test_a_variant_of_ours_alone_is_not_called_unimos(tmp_path):
    write_run(tmp_path, "dark->light", variant="fused-teacher")
    table = headline(find_runs([tmp_path])[0][0], PublishedResults())
    assert table.columns[:4] == ("pair", "UniMoS, fused-teacher (ours)", "gain", "zero-shot")


def test_the_papers_figures_stand_beside_ours(experiment):
    table = headline(experiment, PublishedResults(pairs={"dark->light": {"UniMoS": 0.731}}))
    place = table.columns.index("published")
    assert texts(table.rows)[0][place : place + 2] == ["73.1", "−1.1"]
    assert texts(table.rows)[1][place : place + 2] == ["–", "–"]


def test_matrix(experiment):
    table = matrix_table(experiment)
    assert table.columns == ("source", "dark", "light")
    assert texts(table.rows) == [["dark", "–", "72.0"], ["light", "52.0", "–"]]
    assert texts(table.footer) == [
        ["mean, UniMoS", "52.0", "72.0"],
        ["mean, zero-shot", "55.0", "60.0"],
        ["mean, source-probe", "–", "50.0"],
    ]
    assert [cell.heat for cell in (table.rows[0][2], table.rows[1][1])] == [1.0, 0.0]


def test_ablation_compares_only_what_every_variant_has(experiment):
    table = ablation_table(experiment, PublishedResults(ablations={"no-im": 0.77}))
    assert table.columns == ("variant", "ensemble", "vs full", "VAC", "LAC", "published")
    assert texts(table.rows) == [  # light->dark has no no-im run, so it is out
        ["full", "72.0 ± 2.8", "", "62.0", "67.0", "–"],
        ["no-im", "62.0 ± 2.8", "−10.0 [−10.0, −10.0]", "52.0", "57.0", "77.0"],
    ]
    assert "over the 1 pair(s) and 2 seed(s)" in table.caption


def test_selection(experiment):
    assert texts(selection_table(experiment).rows) == [
        ["last epoch (headline)", "62.0 ± 2.8", "0.0"],
        ["im", "64.0 ± 2.8", "+2.0* [2.0, 2.0]"],
        ["oracle best", "70.0 ± 0.0", "+8.0* [8.0, 8.0]"],
    ]


def test_cells():
    assert [mean_cell(found).text for found in (None, 0.123, MeanStd(0.5, 0.0))] == ["–", "12.3", "50.0 ± 0.0"]
    assert [change_cell(change).text for change in (None, -0.0004, -0.021, 0.02)] == ["–", "0.0", "−2.1", "+2.0"]
    clear, small, chance, lone = (
        PairedDifference(0.02, None, (0.02, 0.021, 0.019)),
        PairedDifference(0.0004, None, (0.0004, 0.0004, 0.0004)),
        PairedDifference(-0.02, None, (-0.05, 0.02, -0.03)),
        PairedDifference(0.02, None, (0.02,)),
    )
    assert [change_cell(change).sign for change in (clear, small, chance, lone)] == ["up", "even", "even", "even"]
    assert [change_cell(change).text for change in (clear, small, chance, lone)] == [
        "+2.0* [1.8, 2.2]",
        "0.0 [0.0, 0.0]",
        "−2.0 [−11.0, 7.0]",
        "+2.0",
    ]


def test_tests_of_a_table_are_corrected_together():
    differences = [PairedDifference(m, None, (m - 0.004, m, m + 0.004)) for m in (0.03, 0.012, 0.011)]
    rows = tuple((name_cell(str(m)), change_cell(m)) for m in differences)
    alone = [cell.p for _, cell in rows]
    assert [round(p, 4) for p in alone] == [0.0059, 0.0351, 0.0414]
    table = correct_tests(Table("t", "T", "How.", ("a", "b"), rows))
    assert [round(cell.p, 4) for _, cell in table.rows] == [0.0176, 0.0702, 0.0702]
    assert [cell.text.partition(" ")[0] for _, cell in table.rows] == ["+3.0*", "+1.2", "+1.1"]
    assert table.caption == (
        "How. In brackets: the 95% t-interval over pairs. An asterisk: p < 0.05 in a two-sided t-test over pairs, each "
        "the mean of its seeds, Holm-corrected for the 3 comparisons of this table."
    )
    assert table.rows[0][1].note == "3 pairs: t-test p = 0.0059, by Holm 0.018; Wilcoxon p = 0.25"


def test_one_pair_is_not_tested():
    rows = ((name_cell("x"), change_cell(PairedDifference(0.02, 0.01, (0.02,), (0.01, 0.02, 0.03)))),)
    table = correct_tests(Table("t", "T", "How.", ("a", "b"), rows))
    assert table.rows[0][1].text == "+2.0 [−0.5, 4.5]"
    assert table.caption == "How. In brackets: the 95% t-interval over the seeds of a pair. One pair is not tested."
