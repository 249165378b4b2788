"""Calls that train a finished run again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unimos_pipe.base.encoder_presets import encoder_name
from unimos_pipe.base.errors import Call
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE
from unimos_pipe.data.dataset_spec import find_spec_files
from unimos_pipe.runs.method_names import UNIMOS, labels_fault
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_values import RecordedSpec
from unimos_pipe.runs.unknown_option import OFF


def dataset_argument(run: FinishedRun) -> str:
    """Return the name of a packaged data set, the recorded spec file, or ``NAME.toml`` if none was recorded."""
    name = run.spec.dataset
    return run.result.dataset_file or (name if name in find_spec_files() else f"{name}.toml")


def training_options(spec: RecordedSpec, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the arguments of ``AdaptOptions`` that are not its defaults, from the spec of a run."""
    options: dict[str, Any] = {"method": spec.method} if spec.method != UNIMOS else {}
    options |= {"label_set": spec.label_set} if spec.label_set else {}
    options |= {"use_target_labels": True} if spec.use_target_labels else {}
    options |= {"unknown": spec.unknown} if spec.unknown != OFF else {}
    options |= {"variant": spec.variant} if spec.variant not in ("", "full") else {}
    options |= {"protocol": spec.protocol}
    options |= {} if spec.calibrate else {"calibrate": False}
    options |= {"settings": dict(spec.changed)} if spec.changed else {}
    return options | ({"seeds": tuple(seeds)} if tuple(seeds) != (0,) else {})


def adapt_call(run: FinishedRun, seeds: Sequence[int], cache: Path | None, location: dict[str, Any]) -> Call:
    """Return the call that makes runs with the options of a run.

    Args:
        cache: named where it is not the default one.
        location: arguments of ``RunLocation``.
    """
    spec = run.spec
    features: dict[str, Any] = {"dataset": dataset_argument(run), "encoder_id": spec.encoder_id}
    features |= {"templates": spec.templates} if spec.templates != (DEFAULT_TEMPLATE,) else {}
    features |= {"cache": cache} if cache else {}
    return Call(
        "adapt_pairs",
        {
            "features": Call("feature_set", features),
            "pairs": [(spec.source, spec.target)],
            "options": Call("AdaptOptions", training_options(spec, seeds)),
            "location": Call("RunLocation", location),
        },
    )


def encoder_preset(run: FinishedRun) -> str | None:
    """Return the name of the preset of a run's encoder; None if it has none."""
    return encoder_name(run.config.encoder["model"])


def adapt_again_calls(run: FinishedRun, cache: Path | None = None) -> list[Call]:
    """Return the calls that read the target's labels again and adapt with them in place of a run.

    Args:
        cache: named where it is not the default one.
    """
    preset = encoder_preset(run)
    features: dict[str, Any] = {"dataset": dataset_argument(run)}
    features |= {"encoder": preset} if preset else {}
    features |= {"cache": cache} if cache else {}
    extract = Call("extract_features", {"features": Call("feature_set", features), "domains": [run.spec.target]})
    spec = replace(run.spec, use_target_labels=labels_fault(run.method) is None)
    taught = replace(run, config=replace(run.config, spec=spec))
    return [extract, adapt_call(taught, [run.spec.seed], cache, {"out": run.folder, "force": True})]
