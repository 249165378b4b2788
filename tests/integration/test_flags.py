"""The library names parameters and calls; only the command line names options and commands."""

import ast
import inspect
import re
from pathlib import Path

import click
import pytest

import unimos_pipe
from unimos_pipe.base.errors import Argument, Call, InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.feature_calls import domain_call, extract_call, import_or_extract_call
from unimos_pipe.cli.compose_commands import COMMANDS, PARAMETERS, command_line, in_command_words
from unimos_pipe.cli.main import main

PACKAGE = Path(unimos_pipe.__file__).parent
GIT = "training/environment.py"  # passes options to git
LIBRARY = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] != "cli" and not path.match(GIT)
]


@pytest.fixture(autouse=True)
def running():
    """A command line that is being run, whose commands are known."""
    with click.Context(main, info_name="unimos-pipe"):
        yield


def trees():
    for path in LIBRARY:
        yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def test_no_text_of_the_library_names_an_option_or_a_command_line():
    named = [
        f"{path}:{node.lineno} {node.value!r}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(r"(?<![\w-])--[a-z]", node.value)
    ]
    assert named == []
    composed = [path.name for path in sorted(PACKAGE.rglob("*.py")) if "shlex.join" in path.read_text()]
    assert composed == [
        "locks.py",
        "compose_commands.py",
        "environment.py",
    ]  # locks and runs record a process's own line


def test_every_parameter_that_a_message_names_has_an_option():
    names = {
        node.args[0].value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Argument"
        and isinstance(node.args[0], ast.Constant)
    }
    assert names >= {"force", "out", "device", "encoder_id", "skip_bad"}
    told = {name: in_command_words(InputError((Argument(name, True),)), main.commands["adapt"]) for name in names}
    assert [name for name, text in told.items() if not text.startswith("--")] == []


@pytest.mark.parametrize("function", COMMANDS)
def test_every_function_of_a_command_is_public(function):
    assert callable(getattr(unimos_pipe, function))


def test_an_error_is_in_python_words_and_the_command_line_names_its_options():
    call = Call("extract_features", {"features": Call("feature_set", {"dataset": "my.toml"}), "domains": ["a b"]})
    error = InputError(
        ("no features in ", Argument("cache"), "."),
        expected="some",
        got=None,
        todo=("Run: ", call, ", or add ", Argument("force", True)),
    )
    assert str(error) == (
        "no features in cache: expected some. Run: unimos_pipe.extract_features("
        "features=unimos_pipe.feature_set(dataset='my.toml'), domains=['a b']), or add force=True"
    )
    assert in_command_words(error, main.commands["extract"]) == (
        "no features in --cache: expected some. "
        "Run: unimos-pipe extract --dataset my.toml --domain 'a b', or add --force"
    )


def test_an_option_of_the_command_that_ran_comes_first():
    out = InputError((Argument("images"),))
    assert in_command_words(out, main.commands["export"]) == "--with-encoder"
    assert in_command_words(out, main.commands["predict"]) == "--images"
    assert in_command_words(InputError((Argument("skip_bad", True),)), main.commands["extract"]) == "--on-error skip"
    assert in_command_words(InputError((Argument("nothing", 3),)), main.commands["extract"]) == "nothing=3"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            Call("extract_features", {"features": Call("feature_set", {"dataset": "icons"})}),
            "extract --dataset icons --all",
        ),
        (
            Call("feature_set", {"encoder": EncoderSpec("RN50-quickgelu", "w.pt", "fp16", True)}),
            "extract --encoder RN50 --pretrained w.pt --encoder-precision fp16 --allow-torchscript --all",
        ),
        (
            Call(
                "feature_set", {"encoder": EncoderSpec("mine", "t"), "words": {"a": "b c"}, "templates": ("{class}",)}
            ),
            "extract --model mine --pretrained t --domain-word 'a=b c' --template '{class}' --all",
        ),
        (
            Call("import_features", {"files": "F", "dataset": "d", "encoder_name": "N", "domain": "x"}),
            "cache import F --dataset d --encoder-name N --domain x",
        ),
        (Call("make_report", {"runs": ["a", "b"], "out": Path("o"), "root": "r"}), "report a b --out o --data-root r"),
        (Call("run_sweep", {"recipe": "r.toml", "runs": Path("x")}), "sweep r.toml --runs x"),
        (
            Call("adapt_pairs", {"pairs": [("a+b", "c")], "options": Call("AdaptOptions", {"seeds": (2, 3)})}),
            "adapt --src a --src b --tgt c --seed 2 --seeds 2",
        ),
        (
            Call(
                "adapt_pairs", {"options": Call("AdaptOptions", {"calibrate": False, "settings": {"loss.im": False}})}
            ),
            "adapt --no-calibrate --set loss.im=false",
        ),
    ],
)
def test_a_call_as_a_command_line(call, line):
    if call.function == "feature_set":
        call = Call("extract_features", {"features": call})
    assert command_line(call) == f"unimos-pipe {line}"


def test_the_parameters_are_those_of_public_functions():
    named = {
        name
        for public in unimos_pipe.__all__
        if callable(getattr(unimos_pipe, public))
        for name in inspect.signature(getattr(unimos_pipe, public)).parameters
    }
    assert set(PARAMETERS) - {"precision"} <= named and "precision" in inspect.signature(EncoderSpec).parameters


def check_call(call):
    """Assert that a call's function is public, and its arguments are parameters."""
    inspect.signature(getattr(unimos_pipe, call.function)).bind_partial(**call.arguments)
    for value in call.arguments.values():
        if isinstance(value, Call):
            check_call(value)


def test_calls_in_messages_can_be_made():
    words, spec = {"a": "b"}, EncoderSpec("m", "t")
    for call in (
        extract_call("icons"),
        extract_call("icons", encoder=spec, templates=("{class}",), words=words),
        domain_call(extract_call("icons"), "line", force=True),
        domain_call(import_or_extract_call("RN50_imported-00000000", extract_call("icons")), "line", force=True),
    ):
        check_call(call)
    assert str(extract_call("icons", words=words)) == (
        "unimos_pipe.extract_features(features=unimos_pipe.feature_set(dataset='icons', words={'a': 'b'}))"
    )
