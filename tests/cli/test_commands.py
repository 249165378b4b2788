"""Every command reads its line as all others do; the next command keeps what this one was given."""

import re

import click

from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.main import main
from unimos_pipe.cli.schemas import SCHEMAS


def commands(group: click.Group, above: str = "") -> dict[str, click.Command]:
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{above}{name} ")
        else:
            found[above + name] = command
    return found


def test_the_next_command_keeps_what_this_one_was_given(cli, icons_cache, tmp_path):
    answer = cli("cache", "ls", "--cache", icons_cache)
    assert answer.err == f"next: unimos-pipe cache verify --cache {icons_cache}\n"
    assert cli("-q", "cache", "ls", "--cache", icons_cache).err == ""
    given = (
        "--dataset",
        "icons",
        "--domain-word",
        "line=ink drawing",
        "--domain-word",
        "color=paint",
        "--cache",
        icons_cache,
    )
    answer = cli("cache", "export", *given, "--all", "-o", tmp_path / "out")
    assert answer.err.splitlines()[-1].startswith(f"next: unimos-pipe cache import {tmp_path}/out/line.npy --labels ")
    icons = ("--dataset", "icons", "--cache", icons_cache, "--template", "the {class} as {domain}")
    one = cli("extract", *icons, "--domain", "sketch").err.splitlines()[-1]
    assert one.startswith("next: unimos-pipe adapt --src line --tgt sketch --dataset icons ")
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "r"\ndataset = "icons"\npairs = ["line->color"]\n')
    given = ("--protocol", "transductive", "--seeds", 2, "--cache", icons_cache, "--runs", tmp_path)
    for command in ("sweep", "run"):
        words = cli(command, recipe, *given, "--dry-run").err.splitlines()[-1].removeprefix("next: unimos-pipe ")
        assert sorted(words.split()) == sorted(str(word) for word in (command, recipe, *given))
    shown = cli("manifest", "show", "pacs").err
    assert shown == "next: unimos-pipe extract --dataset pacs --all --data-root ROOT\n"


def test_a_target_without_labels_is_suggested_before_one_with(cli, miniature, tmp_path):
    for name in ("circle", "square"):
        (miniature.root / "phone" / name).mkdir(parents=True)
        (miniature.root / "light" / name / "0.png").rename(miniature.root / "phone" / name / "0.png")
    domains = 'zebra = { folder = "dark" }\nlight = {}\nphone = { labels = "none" }\n'
    miniature.spec.write_text(miniature.spec.read_text().partition("dark = {}")[0] + domains)
    args = (*miniature.args(tmp_path / "cache"), "--data-root", miniature.root, "--workers", 0)
    answer = cli("extract", *args, "--all")
    assert answer.code == 0, answer.err
    assert answer.err.splitlines()[-1].startswith("next: unimos-pipe adapt --src zebra --tgt phone ")


def test_json_is_taken_where_a_schema_says_what_comes():
    takes = {name for name, command in commands(main).items() if any("--json" in p.opts for p in command.params)}
    assert takes == {name.partition(" --")[0] for name in SCHEMAS}


def groups(group: click.Group = main):
    yield group
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from groups(command)


def test_no_summary_is_cut_at_80_columns():
    for group in groups():
        with click.Context(group, info_name=group.name, terminal_width=80) as ctx:
            listed = group.get_help(ctx).partition("\nCommands:\n")[2].splitlines()
        assert len(listed) == len(group.commands)
        for line in listed:
            assert re.fullmatch(r"  \S+ +\S.*[^.]\.", line) and len(line) <= 80, line


def test_every_command_reads_its_line_in_the_one_way():
    assert all(isinstance(command, Command) for command in [*groups(), *commands(main).values()])


def test_quiet_and_verbose_stand_on_either_side(cli, miniature, tmp_path):
    loud, quiet = "  read it through", ""
    scan = ("--domain", f"a={miniature.root / 'dark'}", "--force", "-o", tmp_path / "s.toml")
    for before, between, after, noted in (
        ((), (), (), loud),
        (("-q",), (), (), quiet),
        ((), ("--quiet",), (), quiet),
        ((), (), ("-q",), quiet),
        (("-q",), ("-q",), ("-q",), quiet),
        ((), (), ("-v",), loud),
    ):
        answer = cli(*before, "manifest", *between, "scan", *scan, *after)
        assert answer.code == 0 and answer.err.startswith(noted) and bool(answer.err) == bool(noted), answer
    for line in (["-q", "-v", "manifest", "ls"], ["-q", "manifest", "ls", "-v"], ["manifest", "-v", "ls", "-q"]):
        assert cli(*line).code == 2 and cli(*line).err.endswith("\nError: -q and -v exclude each other\n")


def test_an_option_with_one_value_is_refused_twice(cli):
    tried = 0
    for name, command in commands(main).items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.multiple and not option.is_flag:
                longest = max(option.opts, key=len)
                answer = cli(*name.split(), f"{longest}=1", option.opts[0], "2")
                told = f"given more than once: {longest}. Give each option once"
                assert (answer.code, answer.err) == (2, f"Error: {told}\n")
                tried += 1
    assert tried > 100


def test_contradictions_are_refused(cli):
    pair = ("adapt", "--dataset", "icons", "--src", "line", "--tgt", "color")
    twice = "Error: {} is given more than once by {}: {}, {}. Give it once\n"
    by = "--set, --epochs and --lr"
    for options, told in (
        (("--epochs", 5, "--set", "train.epochs=6"), twice.format("train.epochs", by, 6, 5)),
        (("--set", "loss.alpha=1", "--set", "loss.alpha=2"), twice.format("loss.alpha", by, 1.0, 2.0)),
        (
            ("--domain-word", "line= "),
            "Error: --domain-word line= : expected DOMAIN=WORD, such as real='real world', got 'line= '\n",
        ),
        (
            ("--domain-word", "line=ink", "--domain-word", "line=pen"),
            twice.format("line", "--domain-word", "ink", "pen"),
        ),
        (
            ("--calibrate", "--no-calibrate"),
            "Error: given more than once: --calibrate. Give each option once\n",
        ),
    ):
        answer = cli(*pair, *options)
        assert (answer.code, answer.err) == (2, told)
