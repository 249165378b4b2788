"""The source that a method's results follow from, by method name."""

from functools import cache

from unimos_pipe.base.plugins import LOSSES, OutsideLoss, OutsideMethod, find_outside, outside_method, source_root
from unimos_pipe.methods.linear_head import with_linear_head
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.source_digest import source_digests

ROOTS = {  # modules where the methods begin that are no entry of the registry
    UNIMOS: ("unimos_pipe.methods.unimos.trainer", "unimos_pipe.methods.unimos.model"),
}


def method_code(method: str, losses: tuple[str, ...] = ()) -> dict[str, str]:
    """The digest of a method's modules and of what they import of ``methods/``, as this process has them.

    Of what comes from outside the package its own package's modules are followed, too; a version that is declared
    stands for them.

    Args:
        losses: names of losses from outside the package that the run weighs.
    """
    outside = None if method in ROOTS or method in METHODS else outside_method(method)
    code = _code_of(outside) if outside else dict(_shipped_code(method))
    for name in losses:
        code |= _code_of(find_outside(LOSSES, name))
    return code


@cache
def _shipped_code(method: str) -> dict[str, str]:
    head = (with_linear_head.__module__,) if method in METHODS and METHODS[method].transductive else ()
    return source_digests(ROOTS.get(method) or (METHODS[method].fit.__module__, *head))


def _code_of(outside: OutsideMethod | OutsideLoss) -> dict[str, str]:
    if outside.version is not None:
        return {outside.name: f"version {outside.version}"}
    return source_digests([source_root(outside.fit if isinstance(outside, OutsideMethod) else outside.value)])
