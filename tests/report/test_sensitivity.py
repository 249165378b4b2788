"""Grid of a sweep as a matrix and a table."""

import numpy as np
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.sensitivity import sensitivity_grid, sensitivity_table


def test_two_options_make_a_map(tmp_path):
    for alpha in (0.1, 1.0):
        for beta, last in ((0.5, 0.6), (2.0, 0.7)):
            if (alpha, beta) != (1.0, 2.0):
                write_run(tmp_path, changed={"loss.alpha": alpha, "loss.beta": beta}, last=last + alpha / 10)
    experiment = find_runs([tmp_path])[0][0]
    found = sensitivity_grid(experiment)
    assert (found.rows, found.columns, found.labels) == (["0.5", "2.0"], ["0.1", "1.0"], ("loss.beta", "loss.alpha"))
    np.testing.assert_allclose(found.values, [[61, 70], [71, np.nan]])
    table = sensitivity_table(experiment)
    assert [cell.text for cell in table.rows[0]] == ["alpha=0.1, beta=0.5", "61.0", "–"]


def test_no_grid_and_one_option(tmp_path):
    write_run(tmp_path / "a")
    assert sensitivity_table(find_runs([tmp_path / "a"])[0][0]) is None
    for tau in (0.0, 0.5):
        write_run(tmp_path / "b", changed={"eval.debias_tau": tau}, last=0.6 + tau / 10)
    experiment = find_runs([tmp_path / "b"])[0][0]
    assert sensitivity_grid(experiment) is None and [row[1].text for row in sensitivity_table(experiment).rows] == [
        "60.0",
        "65.0",
    ]
