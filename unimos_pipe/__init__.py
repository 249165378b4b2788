"""UniMoS as a two-stage feature-cache pipeline: encode with frozen CLIP once, adapt from the cache in seconds.

From Python: :func:`extract_features`, :func:`open_store`, :func:`make_task`, :func:`adapt_task`, :func:`load`. They
are imported when first used, because torch takes seconds to import.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "extract_features": "unimos_pipe.api",
    "open_store": "unimos_pipe.api",
    "make_task": "unimos_pipe.api",
    "adapt_task": "unimos_pipe.api",
    "load": "unimos_pipe.deploy.model",
    "AdaptedModel": "unimos_pipe.deploy.model",
    "EncoderSpec": "unimos_pipe.base.config",
    "task_from_arrays": "unimos_pipe.methods.arrays",
    "UniMoSClassifier": "unimos_pipe.deploy.estimator",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
