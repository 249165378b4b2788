"""Gains over zero-shot by pair on synthetic runs with known scores."""

from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.gain_table import gain_table
from unimos_pipe.report.table_writers import to_csv


def test_each_method_by_pair_with_its_worst_and_losses(tmp_path):
    for seed, last in ((0, 0.50), (1, 0.54)):
        write_run(tmp_path, "dark->light", seed=seed, last=last, zero_shot=0.6)
    write_run(tmp_path, "light->dark", last=0.55, zero_shot=0.5)
    write_run(tmp_path, "dark->light", method="fused", last=0.59, zero_shot=0.6)
    write_run(tmp_path, "dark->light", method="zero-shot", last=0.6, zero_shot=0.6)
    table = gain_table(find_runs([tmp_path])[0][0])
    assert table.columns == ("method", "mean", "worst", "losses", "dark → light", "light → dark")
    assert [[(cell.text, cell.sign) for cell in row] for row in table.rows] == [
        [("UniMoS", ""), ("−1.5", "down"), ("−8.0", "down"), ("1", ""), ("−8.0", "down"), ("+5.0", "")],
        [("fused", ""), ("−1.0", ""), ("−1.0", ""), ("0", ""), ("−1.0", ""), ("–", "")],  # 1 point is no loss
    ]
    assert to_csv(table).splitlines()[1] == "UniMoS,-1.5000,-8.0000,1.0000,-8.0000,5.0000"


def test_a_single_figure_is_no_table(tmp_path):
    write_run(tmp_path, "dark->light", last=0.5, zero_shot=0.6)
    assert gain_table(find_runs([tmp_path])[0][0]) is None
