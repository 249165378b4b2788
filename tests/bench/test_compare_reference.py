"""Stage two against the reference program: order of the epochs, ratios, output of the command."""

import itertools
from collections.abc import Iterator

import pytest
import torch

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.bench import compare_reference
from unimos_pipe.bench.adapt import SIZES, Size
from unimos_pipe.bench.compare_reference import BenchmarkCandidate, build_candidates, time_in_turns

TINY = Size(64, 96, 16, 5)


class Machine:
    """A clock and a count of page faults that epochs push on."""

    def __init__(self):
        self.seconds, self.faults, self.log = 0.0, 0, []

    def contestant(self, name: str, runs: int, steps: int, epochs: list[tuple[float, int]]) -> BenchmarkCandidate:
        def taken() -> Iterator[None]:
            for seconds, faults in epochs:
                self.seconds += seconds
                self.faults += faults
                self.log.append(name)
                yield

        return BenchmarkCandidate(name, runs, steps, taken())


def test_ratios_are_by_round_and_per_run():
    machine = Machine()
    plain = machine.contestant("plain", 1, 10, [(6.0, 30), (8.0, 0), (9.0, 50)])
    stack = machine.contestant("stack", 4, 10, [(8.0, 0), (12.0, 20), (24.0, 0)])  # 2, 3 and 6 seconds a run
    first, second = time_in_turns([plain, stack], 3, clock=lambda: machine.seconds, faults=lambda: machine.faults)
    assert machine.log == ["plain", "stack", "stack", "plain", "plain", "stack"]
    assert (first.seconds, second.seconds) == ((6.0, 8.0, 9.0), (2.0, 3.0, 6.0))
    assert (first.faults, second.faults) == ((3.0, 0.0, 5.0), (0.0, 2.0, 0.0))
    assert second.ratios(first) == (3.0, 8 / 3, 1.5)


def test_everybody_trains_the_same_task_to_the_last_epoch():
    method = method_spec("full", {"train.epochs": 3, "train.min_steps": 1})
    made = build_candidates(TINY, method, (1, 3), ("fp32", "bf16"), torch.device("cpu"))
    assert [(found.name, found.runs, found.steps) for found in made] == [
        ("reference program", 1, 2),
        ("fp32, stack of 1", 1, 2),
        ("fp32, stack of 3", 3, 2),
        ("bf16, stack of 1", 1, 2),
        ("bf16, stack of 3", 3, 2),
    ]
    assert [len(list(found.epochs)) for found in made] == [2] * 5  # the first of three is behind everybody


def test_the_command_prints_every_contestant(cli, monkeypatch):
    monkeypatch.setitem(SIZES, "icons", TINY)
    ticks = itertools.count()

    def turns(contestants, rounds, advance):
        assert rounds == 2
        return time_in_turns(contestants, rounds, advance, clock=lambda: next(ticks), faults=lambda: 0)

    monkeypatch.setattr(compare_reference, "time_in_turns", turns)
    monkeypatch.setattr(compare_reference.os, "getloadavg", lambda: (0.5, 0, 0))
    chosen = "--size", "icons", "--stack", 2, "--train-precision", "fp32", "--train-precision", "bf16"
    answer = cli("bench", "adapt", "--compare-rounds", 2, *chosen)
    assert answer.code == 0
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines() if "│" in line]
    assert shown == [  # a tick a turn: one second for one run, half a second each for two
        ["reference program", "1.000", "", "", "0.0"],
        ["fp32, stack of 2", "0.500", "2.00", "2.00 to 2.00", "0.0"],
        ["bf16, stack of 2", "0.500", "2.00", "2.00 to 2.00", "0.0"],
    ]
    assert "icons on cpu: an epoch of each in turn, medians of 2 round(s)" in answer.out
    assert "load average 0.5 before and 0.5 after; this process used " in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compare-rounds", 1, "--profile"), "--profile measures a single step; omit --compare-rounds"),
        (
            ("--train-precision", "bf16"),
            "--train-precision needs --compare-rounds; otherwise use --set train.precision=bf16",
        ),
    ],
)
def test_options_that_do_not_go_together(cli, arguments, message):
    answer = cli("bench", "adapt", *arguments)
    assert (answer.code, answer.err) == (2, f"Error: {message}\n")
