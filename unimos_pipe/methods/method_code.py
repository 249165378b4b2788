"""The source that a method's results follow from, by method name."""

from functools import cache

from unimos_pipe.methods.registry import METHODS
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.source_digest import source_digests

ROOTS = {  # modules where the methods begin that are no entry of the registry
    UNIMOS: ("unimos_pipe.methods.unimos.trainer", "unimos_pipe.methods.unimos.model"),
}


@cache
def method_code(method: str) -> dict[str, str]:
    """The digest of a method's modules and of what they import of ``methods/``, as this process has them."""
    return source_digests(ROOTS.get(method) or (METHODS[method].fit.__module__,))
