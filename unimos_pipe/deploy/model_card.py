"""The README card of an exported model, in the layout of a model hub."""

import json
from collections.abc import Mapping
from typing import Any

from unimos_pipe.base.terminal import format_percent
from unimos_pipe.cache.encoder_identity import IMPORTED
from unimos_pipe.runs.method_names import CITATIONS, UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.statistics import describe_labelled_rows


def render_card(settings: Mapping[str, Any]) -> str:
    """Markdown with a metadata header, from a model's config (see :data:`unimos_pipe.deploy.adapted_model.KEYS`)."""
    about, encoder = settings["about"], settings["encoder"]
    imported = encoder["precision"] == IMPORTED
    dataset, source, target = (_escape(about[name]) for name in ("dataset", "source", "target"))
    is_unimos = settings["method"] == UNIMOS
    method = UNIMOS_NAME if is_unimos else settings["method"]
    epochs = settings["options"].get("train", {}).get("epochs")
    training = f", variant {about['variant']}, seed {about['seed']}, {epochs} epochs" if is_unimos else ""
    header = {"library_name": "unimos-pipe", "pipeline_tag": "zero-shot-image-classification"}
    header["tags"] = ["clip", "domain-adaptation", settings["method"]]
    extension = ""
    if settings["options"].get("train", {}).get("text") == "fused":
        extension = ", with text features that have seen the source, which is not in the paper"
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in header.items()), "---", ""]
    lines += [
        f"# CLIP adapted to {target} ({dataset})",
        "",
        f"A light model that adapts the frozen CLIP encoder {_escape(encoder['model'])} to the domain **{target}** of "
        f"{dataset}, made with labels of the domain **{source}** and none of {target} itself. Method: {method}, as "
        f"unimos-pipe implements it{extension}.",
        "",
        "```python",
        "import unimos_pipe",
        'model = unimos_pipe.load("path/to/this/folder")',
        "answers = model.predict_features(features)  # (n, D)"
        if imported
        else 'answers = model.predict(["one.png", "two.png"])',
        "print(answers.labels)",
        "print(answers.top(5))",
        "```",
        "",
        "## Figures",
        "",
        *_accuracy_lines(about, "this model, last epoch" if is_unimos else "this model"),
        "",
        "## What it is made of",
        "",
        f"- classes ({len(settings['classes'])}): {', '.join(_escape(name) for name in settings['classes'])}",
        f"- trained on {about['rows']['source']} labelled {source} and {about['rows']['target']} unlabelled {target} "
        f"images{training}",
        f"- to cite: {CITATIONS[settings['method']]}",
        f"- prompts: {'; '.join(_escape(text) for text in about['templates'])}",
        _describe_encoder(settings),
        "",
        "## Limits",
        "",
        f"It knows these classes only and answers one of them to any image. It was fitted to {target} as that data set "
        "has it; elsewhere it may do worse than plain CLIP. It inherits what CLIP's training data taught it, biases "
        f"included. {_describe_calibration(settings['temperature'], source, target)}",
        "",
    ]
    return "\n".join(lines)


def _describe_encoder(settings: Mapping[str, Any]) -> str:
    encoder = settings["encoder"]
    if encoder["precision"] == IMPORTED:
        return "- encoder: its features were made elsewhere; what made them is known by that name alone"
    return (
        f"- encoder weights: sha256 {encoder['weights_sha256']} ({_escape(settings['encoder_id'])}); they are not in "
        "this folder and are fetched, and checked, when images are first classified"
    )


def _describe_calibration(temperature: float | None, source: str, target: str) -> str:
    if temperature is None:
        return "Probabilities are not calibrated."
    return (
        f"Probabilities are calibrated: logits are divided by a temperature, {temperature:.3g}, fitted to held-out "
        f"images of {source}; on {target} they may still be too sure."
    )


def _accuracy_lines(about: Mapping[str, Any], model: str) -> list[str]:
    accuracy = about["accuracy"]
    if not accuracy:
        return ["The target has no labels, so the accuracy is not known."]
    rows, interval = about["rows"], ""
    if "labelled" in rows:
        interval = f", {describe_labelled_rows(accuracy['last'], rows['labelled'], rows['scored'])}"
    return [
        f"| accuracy on {_escape(about['target'])}{interval} | % |",
        "| --- | ---: |",
        f"| {model} | {format_percent(accuracy['last'])} |",
        f"| CLIP zero-shot | {format_percent(accuracy['zero_shot'])} |",
    ]


def _escape(text: str) -> str:
    """A name without what Markdown or HTML would act on."""
    return "".join(f"\\{char}" if char in "\\`*[]|" else {"<": "&lt;", ">": "&gt;"}.get(char, char) for char in text)
