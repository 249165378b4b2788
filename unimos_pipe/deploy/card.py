"""The README card of an exported model, in the layout of a model hub."""

import json
from collections.abc import Mapping
from typing import Any

from unimos_pipe.base.console import percent
from unimos_pipe.cache.identity import IMPORTED
from unimos_pipe.runs.means import on_labelled_rows


def card_text(settings: Mapping[str, Any]) -> str:
    """Markdown with a metadata header, from a model's config (see :data:`unimos_pipe.deploy.model.KEYS`)."""
    about, encoder = settings["about"], settings["encoder"]
    elsewhere = encoder["precision"] == IMPORTED
    dataset, source, target = (_plain(about[name]) for name in ("dataset", "source", "target"))
    header = {"library_name": "unimos-pipe", "pipeline_tag": "zero-shot-image-classification"}
    header["tags"] = ["clip", "domain-adaptation", "unimos"]
    fused = settings["method"]["train"].get("text") == "fused"
    changed = ", with text features that have seen the source, which is not in the paper" if fused else ""
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in header.items()), "---", ""]
    lines += [
        f"# CLIP adapted to {target} ({dataset})",
        "",
        f"Light heads that adapt the frozen CLIP encoder {_plain(encoder['model'])} to the domain **{target}** of "
        f"{dataset}, trained with labels of the domain **{source}** and none of {target} itself. "
        f"Method: UniMoS (Li et al., CVPR 2024, arXiv 2403.06946), as unimos-pipe implements it{changed}.",
        "",
        "```python",
        "import unimos_pipe",
        'model = unimos_pipe.load("path/to/this/folder")',
        "answers = model.answer(features)  # (n, D)"
        if elsewhere
        else 'answers = model.predict(["one.png", "two.png"])',
        "print(answers.labels)",
        "print(answers.top(5))",
        "```",
        "",
        "## Figures",
        "",
        *_figures(about),
        "",
        "## What it is made of",
        "",
        f"- classes ({len(settings['classes'])}): {', '.join(_plain(name) for name in settings['classes'])}",
        f"- trained on {about['rows']['source']} labelled {source} and {about['rows']['target']} unlabelled {target} "
        f"images, variant {about['variant']}, seed {about['seed']}, {settings['method']['train']['epochs']} epochs",
        f"- prompts: {'; '.join(_plain(text) for text in about['templates'])}",
        _encoder_line(settings),
        "",
        "## Limits",
        "",
        f"It knows these classes only and answers one of them to any image. It was fitted to {target} as that data set "
        "has it; elsewhere it may do worse than plain CLIP. It inherits what CLIP's training data taught it, biases "
        "included. Probabilities are not calibrated.",
        "",
    ]
    return "\n".join(lines)


def _encoder_line(settings: Mapping[str, Any]) -> str:
    encoder = settings["encoder"]
    if encoder["precision"] == IMPORTED:
        return "- encoder: its features were made elsewhere; what made them is known by that name alone"
    return (
        f"- encoder weights: sha256 {encoder['weights_sha256']} ({_plain(settings['encoder_id'])}); they are not in "
        "this folder and are fetched, and checked, when images are first classified"
    )


def _figures(about: Mapping[str, Any]) -> list[str]:
    accuracy = about["accuracy"]
    if not accuracy:
        return ["The target has no labels, so the accuracy is not known."]
    rows, known = about["rows"], ""
    if "labelled" in rows:
        known = f", {on_labelled_rows(accuracy['last'], rows['labelled'], rows['scored'])}"
    return [
        f"| accuracy on {_plain(about['target'])}{known} | % |",
        "| --- | ---: |",
        f"| this model, last epoch | {percent(accuracy['last'])} |",
        f"| CLIP zero-shot | {percent(accuracy['zero_shot'])} |",
    ]


def _plain(text: str) -> str:
    """A name without what Markdown or HTML would act on."""
    return "".join(f"\\{char}" if char in "\\`*[]|" else {"<": "&lt;", ">": "&gt;"}.get(char, char) for char in text)
