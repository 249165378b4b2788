"""Model card (README) of an exported model, in the format of model hubs."""

import json
from collections.abc import Mapping
from typing import Any

from unimos_pipe.base.terminal import format_percent
from unimos_pipe.cache.encoder_identity import IMPORTED
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.runs.method_names import AUTO, UNIMOS, UNIMOS_NAME, citation
from unimos_pipe.runs.statistics import describe_labelled_rows


def render_card(settings: Mapping[str, Any]) -> str:
    """Return Markdown with a metadata header.

    ``settings`` is a model's config, see :data:`unimos_pipe.deploy.model_config.CONFIG_KEYS`.
    """
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
        extension = ", with text features fitted to the source, an extension that is not in the paper"
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in header.items()), "---", ""]
    lines += [
        f"# CLIP adapted to {target} ({dataset})",
        "",
        f"Unsupervised domain adaptation of the frozen CLIP encoder {_escape(encoder['model'])} to the domain "
        f"**{target}** of {dataset}: trained with labels of the domain **{source}** and without labels of {target}. "
        f"Method: {method}, as implemented by unimos-pipe{extension}.",
        "",
        "```python",
        "import unimos_pipe",
        'model = unimos_pipe.load("path/to/this/folder")',
        "predictions = model.predict_features(features)  # (n, D)"
        if imported
        else 'predictions = model.predict(["one.png", "two.png"])',
        "print(predictions.labels)",
        "print(predictions.top(5))",
        "```",
        "",
        "## Results",
        "",
        *_accuracy_lines(about, "this model, last epoch" if is_unimos else "this model"),
        "",
        "## Training",
        "",
        f"- classes ({len(settings['classes'])}): {', '.join(_escape(name) for name in settings['classes'])}",
        f"- trained on {about['rows']['source']} labelled {source} and {about['rows']['target']} unlabelled {target} "
        f"images{training}",
        *([f"- citation: {cited}"] if (cited := citation(settings["method"])) else []),
        f"- prompts: {'; '.join(_escape(text) for text in about['templates'])}",
        _describe_encoder(settings),
        "",
        "## Limits",
        "",
        f"{_describe_classes(settings['about'])} It was fitted to {target} of this data set; on "
        "other domains it may be worse than zero-shot CLIP. It inherits the biases of CLIP's training data. "
        f"{_describe_calibration(settings, source, target)}",
        "",
    ]
    return "\n".join(lines)


def _describe_encoder(settings: Mapping[str, Any]) -> str:
    encoder = settings["encoder"]
    if encoder["precision"] == IMPORTED:
        return "- encoder: the features were imported; only its name is known"
    return (
        f"- encoder weights: sha256 {encoder['weights_sha256']} ({_escape(settings['encoder_id'])}); they are not in "
        "this folder; they are downloaded and verified when the first image is classified"
    )


def _describe_classes(about: Mapping[str, Any]) -> str:
    share = about.get("unknown_share")
    if share is None:
        return "The model predicts one of these classes for every image."
    return (
        f"The model predicts one of these classes, or {UNKNOWN_CLASS} for an image that looks like none of them; on "
        f"the images it was fitted to these were {format_percent(share)}%."
    )


def _describe_calibration(settings: Mapping[str, Any], source: str, target: str) -> str:
    temperature = settings["temperature"]
    if temperature is None:
        return "Probabilities are not calibrated."
    calibrated = f"Probabilities are calibrated: logits are divided by a temperature, {temperature:.3g}"
    if settings["about"].get("calibration_basis") == "estimate":
        return (
            f"{calibrated}, with which their mean on {target} is the accuracy that was estimated there without labels; "
            "they inherit the error of that estimate."
        )
    if settings["method"] == AUTO:
        return (
            f"{calibrated}, with which their mean on {target} is that of stacked fusion, which is fitted to held-out "
            f"images of {source}; on {target} they may still be overconfident."
        )
    return f"{calibrated}, fitted to held-out images of {source}; on {target} they may still be overconfident."


def _accuracy_lines(about: Mapping[str, Any], model: str) -> list[str]:
    accuracy = about["accuracy"]
    if not accuracy:
        return ["The target has no labels, so the accuracy is unknown."]
    rows, interval = about["rows"], ""
    if "labelled" in rows:
        interval = f", {describe_labelled_rows(accuracy['last'], rows['labelled'], rows['scored'])}"
    return [
        f"| accuracy on {_escape(about['target'])}{interval} | % |",
        "| --- | ---: |",
        f"| {model} | {format_percent(accuracy['last'])} |",
        *([f"| CLIP zero-shot | {format_percent(accuracy['zero_shot'])} |"] if "zero_shot" in accuracy else []),
    ]


def _escape(text: str) -> str:
    """Return text with Markdown and HTML characters escaped."""
    return "".join(f"\\{char}" if char in "\\`*[]|" else {"<": "&lt;", ">": "&gt;"}.get(char, char) for char in text)
