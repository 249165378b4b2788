"""Every old spelling of an option, a command, a recipe key or a name is refused, and the error names the new one."""

import re

import click
import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.base.renamed import RENAMED
from unimos_pipe.cli.main import main
from unimos_pipe.cli.renamed import COMMANDS, OPTIONS
from unimos_pipe.runs.read_recipe import check_recipe

RECIPE = {"name": "r", "dataset": "icons", "methods": ["auto"]}
REFUSALS = {  # what is given in a recipe, and the message
    "w_step": (
        {"methods": ["unimos"], "options": {"eval": {"w_step": 1}}},
        "unknown options.eval.w_step (options.eval.w_step is now options.eval.w_epochs)",
    ),
    "paper": ({"paper": "office_home.RN50"}, "unknown paper (paper is now published_table)"),
    "set": ({"set": {"train": {"epochs": 1}}}, "unknown set (set is now options)"),
    "target_classes": ({"target_classes": "all"}, "unknown target_classes (target_classes is now label_set)"),
    "all": ({"label_set": "all"}, "label_set: expected one of closed, partial, got 'all'; all is now closed"),
    "some": ({"label_set": "some"}, "label_set: expected one of closed, partial, got 'some'; some is now partial"),
    "trio": ({"methods": ["auto", "trio"]}, "unknown method trio (trio is now ensemble3)"),
}


def commands(group: click.Group = main, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found = {}
    for name, command in group.commands.items():
        inner = commands(command, (*words, name)) if isinstance(command, click.Group) else {}
        found |= {(*words, name): command, **inner}
    return found


USES = [
    (words, old, new)
    for old, names in OPTIONS.items()
    for new in names
    for words, command in commands().items()
    if new in {opt for param in command.params for opt in param.opts}
]


def test_every_new_option_and_command_exists():
    assert {new for _, _, new in USES} == {new for names in OPTIONS.values() for new in names}
    names = {words[-1] for words in commands()}
    assert {new for known in COMMANDS.values() for new in known} <= names
    assert not names & set(COMMANDS)


@pytest.mark.parametrize(("words", "old", "new"), USES, ids=[" ".join((*words, old)) for words, old, _ in USES])
def test_an_old_option_names_the_new_one(cli, words, old, new):
    if old in {opt for param in commands()[words].params for opt in param.opts}:
        pytest.skip(f"{' '.join(words)} has an option of that name")
    answer = cli(*words, old, "x")
    assert answer.code == 2 and answer.err.splitlines()[-1] == f"Error: No such option {old!r}. It is now {new!r}"
    assert cli(*words, f"{old}=x").err == answer.err


@pytest.mark.parametrize(("old", "group", "new"), [("grow", "bench", "memory")])
def test_an_old_command_names_the_new_one(cli, old, group, new):
    assert {old: (new,)}.items() <= COMMANDS.items() and len(COMMANDS) == 1
    answer = cli(group, old)
    assert answer.code == 2 and answer.err.splitlines()[-1] == f"Error: No such command {old!r}. It is now {new!r}"


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_in_a_recipe_names_the_new_one(old):
    change, message = REFUSALS[old]
    with pytest.raises(InputError, match=f"^r.toml: {re.escape(message)}$"):
        check_recipe(RECIPE | change, "r.toml")


def test_an_old_name_on_the_command_line_names_the_new_one(cli):
    adapt = ("adapt", "--dataset", "icons", "--src", "line", "--tgt", "sketch")
    for words, old, new in (
        (("--method", "trio"), "trio", "ensemble3"),
        (("--method", "auto", "--label-set", "all"), "all", "closed"),
        (("--method", "auto", "--label-set", "some"), "some", "partial"),
        (("--set", "eval.w_step=3"), "eval.w_step", "eval.w_epochs"),
    ):
        answer = cli(*adapt, *words)
        assert answer.code == 2 and f"; {old} is now {new}\n" in answer.err


def test_a_name_is_refused_only_where_its_new_spelling_is_known():
    with pytest.raises(InputError, match=r"^here: unknown variant 'some'; known: full, "):
        method_spec("some", where="here")
