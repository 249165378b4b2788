"""Forty command lines with a typo each: what the user meant is suggested."""

import random
import string

from unimos_pipe.base.dataclass_parsing import option_fields
from unimos_pipe.base.method_config import VARIANTS, MethodSpec
from unimos_pipe.cli.main import main
from unimos_pipe.data.dataset_spec import find_spec_files, load_spec
from unimos_pipe.runs.method_names import METHODS
from unimos_pipe.runs.read_recipe import known_recipes

LINES, RIGHT = 40, 36
PAIR = ("adapt", "--dataset", "icons", "--src", "line", "--tgt", "sketch")


def mistyped(name: str, rng: random.Random) -> str:
    """The name with two letters swapped, or one dropped, doubled or put in."""
    kind, at = rng.choice(("swap", "drop", "double", "insert")), rng.randrange(len(name))
    if kind == "swap":
        at = min(at, len(name) - 2)
        return name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    middle = {"drop": "", "double": name[at] * 2, "insert": name[at] + rng.choice(string.ascii_lowercase)}[kind]
    return name[:at] + middle + name[at + 1 :]


def places() -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """By kind: the names that may be meant, and the line with ``{}`` where one is typed."""
    adapt_options = [max(p.opts, key=len) for p in main.commands["adapt"].params]
    return {
        "command": (list(main.commands), ("{}",)),
        "sub-command": (list(main.commands["cache"].commands), ("cache", "{}")),
        "option": (adapt_options, (*PAIR, "{}", "1")),
        "setting": ([name for name, _ in option_fields(MethodSpec)], (*PAIR, "--set", "{}=1")),
        "data set": (list(find_spec_files()), ("manifest", "show", "{}")),
        "recipe": (list(known_recipes()), ("sweep", "{}")),
        "domain": (list(load_spec("office_home").domains), ("adapt", "--src", "{}", "--tgt", "nowhere")),
        "variant": (list(VARIANTS), (*PAIR, "--variant", "{}")),
        "method": (list(METHODS), (*PAIR, "--method", "{}")),
        "encoder": (["ViT-B-16", "ViT-L-14", "RN101", "SigLIP2-B-16"], (*PAIR, "--encoder", "{}")),
    }


def test_the_suggestion_is_right(cli):
    rng, wrong, kinds = random.Random(0), [], places()
    for index in range(LINES):
        names, line = kinds[list(kinds)[index % len(kinds)]]
        meant = rng.choice(names)
        while (typed := mistyped(meant, rng)) in names:  # another name that there is, or two equal letters swapped
            pass
        answer = cli(*(part.format(typed) for part in line))
        assert answer.code == 2, (typed, answer)
        told = answer.err.lower().partition("did you mean ")[2].partition("?")[0].strip("'")
        if told != meant.lower():
            wrong.append((typed, meant, told))
    assert LINES - len(wrong) >= RIGHT, wrong
    print(f"{LINES - len(wrong)} of {LINES} suggestions are right; the others: {wrong}")
