"""Tables of methods on synthetic runs with known scores."""

from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.method_tables import method_table


def made(tmp_path):
    for seed, last in ((0, 0.70), (1, 0.74)):
        write_run(tmp_path, "dark->light", seed=seed, last=last, zero_shot=0.6)
        write_run(tmp_path, "light->dark", seed=seed, last=0.5, zero_shot=0.5)
    known = {"estimate": {"accuracy": 0.65}, "reliability": {"raw": {"ece": 0.2}, "calibrated": {"ece": 0.05}}}
    write_run(tmp_path, "dark->light", method="fused", last=0.71, zero_shot=0.6, more={"seconds": 0.25, **known})
    write_run(tmp_path, "light->dark", method="fused", last=0.60, zero_shot=0.5, more={"seconds": 0.15})
    write_run(tmp_path, "dark->grey", method="fused")  # a pair that UniMoS lacks
    return find_runs([tmp_path])[0][0]


def test_methods_side_by_side(tmp_path):
    table = method_table(made(tmp_path))
    assert table.columns == (
        *("method", "accuracy", "gain", "regret, mean", "regret, worst pair"),
        *("estimate error", "raw ECE", "ECE", "seconds"),
    )
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["UniMoS", "61.0 ± 1.4", "+6.0 [−70.2, 82.2]", "5.0", "10.0", "–", "–", "–", "2.5"],
        ["fused", "65.5", "+10.5* [4.1, 16.9]", "0.5", "1.0", "6.0", "20.0", "5.0", "0.2"],
        ["zero-shot", "55.0", "", "11.0", "12.0", "–", "–", "–", "–"],
    ]


def test_a_baseline_without_runs_can_be_the_best_of_a_pair(tmp_path):
    """Zero-shot leads on dark -> light, by 10 points over UniMoS and by 5 over fused."""
    for method, first in (("unimos", 0.7), ("fused", 0.75)):
        write_run(tmp_path, "dark->light", method=method, last=first, zero_shot=0.8)
        write_run(tmp_path, "light->dark", method=method, last=0.6, zero_shot=0.5)
    table = method_table(find_runs([tmp_path])[0][0])
    place = table.columns.index("regret, mean")
    assert {row[0].text: [cell.text for cell in row[place : place + 2]] for row in table.rows} == {
        "UniMoS": ["5.0", "10.0"],
        "fused": ["2.5", "5.0"],
        "zero-shot": ["5.0", "10.0"],
    }


def test_one_method_has_nothing_beside_it(tmp_path):
    write_run(tmp_path, method="fused")
    found = find_runs([tmp_path])[0][0]
    assert method_table(found) is None
    assert (found.default_setting, found.has_unimos, found.default_setting_name) == ("fused", False, "fused")


def test_the_main_label_is_unimoss_where_there_is_one(tmp_path):
    found = made(tmp_path)
    assert (found.default_setting, found.has_unimos, found.default_setting_name, found.pairs[:1]) == (
        "full",
        True,
        "UniMoS",
        ["dark->light"],
    )
