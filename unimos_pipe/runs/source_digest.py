"""Digests of the source modules behind a method's results, to detect results made by other code.

The digest of a module covers its syntax tree without docstrings.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import xxhash

WITH_DOCSTRING = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
WITHIN = "unimos_pipe.methods"  # what is followed of this package: the rest gets features in and results out


def source_digests(roots: Iterable[str]) -> dict[str, str]:
    """The digest of every module that the roots import, directly or not: module name -> 16 hex digits, sorted.

    Followed are imports within :data:`WITHIN` and within the roots' own top-level packages.

    Args:
        roots: names of modules, or paths of scripts (ending in ``.py``).
    Raises:
        FileNotFoundError: a root without a source file.
    """
    roots = list(roots)
    packages = {root.partition(".")[0] for root in roots if not root.endswith(".py")} - {"unimos_pipe"}
    digests: dict[str, str] = {}
    pending = list(dict.fromkeys(roots))
    while pending:
        name = pending.pop()
        path = source_file(name)
        if path is None:
            if name in roots:
                raise FileNotFoundError(f"{name} has no source file")
            continue
        digests[name], imports = _read_module(path, path.stat().st_mtime_ns, name)
        wanted = (module for module in imports if _is_followed(module, packages))
        pending += [module for module in wanted if module not in digests and module not in pending]
    return dict(sorted(digests.items()))


def changed_modules(recorded: Mapping[str, str], current: Mapping[str, str] | None = None) -> list[str]:
    """Return the modules whose source differs from the recorded one, or is missing.

    Args:
        recorded: from :func:`source_digests`.
        current: current digests; None: read the recorded modules again.
    """
    if current is None:
        current = {name: digest for name in recorded if (digest := _digest_now(name)) is not None}
    return [name for name, digest in recorded.items() if current.get(name) != digest]


def source_file(name: str) -> Path | None:
    """The file of a module or script, found without importing it; None where it has none."""
    if name.endswith(".py"):
        return Path(name) if Path(name).is_file() else None
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not inner and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *inner)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _digest_now(name: str) -> str | None:
    path = source_file(name)
    return _read_module(path, path.stat().st_mtime_ns, name)[0] if path else None


def _is_followed(name: str, packages: set[str]) -> bool:
    return name == WITHIN or name.startswith(f"{WITHIN}.") or name.partition(".")[0] in packages


@functools.lru_cache(maxsize=1024)
def _read_module(path: Path, changed: int, name: str) -> tuple[str, tuple[str, ...]]:
    """Digest and imports of a file; ``changed``, its time in nanoseconds, lets a file that changed be read again."""
    tree = ast.parse(path.read_bytes())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = tuple(dict.fromkeys(_imports(tree, package)))
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRING) and _opens_with_text(node.body):
            node.body = node.body[1:] or [ast.Pass()]
    return xxhash.xxh3_64(ast.unparse(tree).encode()).hexdigest(), imports


def _opens_with_text(body: list[ast.stmt]) -> bool:
    """Return whether a body begins with a docstring."""
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute names that may be modules, of every import at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
