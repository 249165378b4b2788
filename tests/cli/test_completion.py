"""Shells complete recipes, data sets, the domains of the data set in the line, encoders and settings."""

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from unimos_pipe.cli.main import main
from unimos_pipe.runs.read_recipe import known_recipes


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        (["sweep"], "office_home_v", ["office_home_vitb16", "office_home_vitl14"]),
        (["run"], "", sorted(known_recipes())),
        (["sweep"], "mine", ["mine"]),
        (["adapt", "--dataset"], "ico", ["icons", "icons_third"]),
        (["manifest", "show"], "pac", ["pacs"]),
        (["adapt", "--dataset", "icons", "--src"], "", ["color", "line", "sketch", "solid"]),
        (["adapt", "--src", "art", "--tgt"], "c", ["clipart"]),
        (["extract", "--dataset", "nothing", "--domain"], "", []),
        (["extract", "--encoder"], "ViT-B", ["ViT-B-16"]),
        (["adapt", "--set"], "loss.a", ["loss.alpha="]),
        (["adapt", "--variant"], "no-d", ["no-debias", "no-distill", "no-discriminator"]),
    ],
)
def test_what_is_offered(words, incomplete, offered):
    found = ShellComplete(main, {}, "unimos-pipe", "_UNIMOS_PIPE_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in found] == offered
    assert {item.type for item in found} <= {"file" if incomplete == "mine" else "plain"}


def test_the_program_prints_what_a_shell_reads():
    answer = CliRunner().invoke(main, prog_name="unimos-pipe", env={"_UNIMOS_PIPE_COMPLETE": "zsh_source"})
    assert answer.exit_code == 0 and answer.stdout.startswith("#compdef unimos-pipe\n")
