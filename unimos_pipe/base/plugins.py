"""Methods, losses, validators and encoders from outside the package: by Python, entry points, or the module's name.

An entry point of the group ``unimos_pipe.methods`` (``losses``, ``validators``, ``encoders``) names a module, which
registers what it brings when it is imported:

    [project.entry-points."unimos_pipe.methods"]
    ridge = "my_package.ridge"

Until a name is asked for, only the entry points' names are read. Imports no torch.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import InputError

METHODS, LOSSES, VALIDATORS, ENCODERS = "methods", "losses", "validators", "encoders"


@dataclass(frozen=True)
class OutsideMethod:
    """A method from outside the package.

    Attributes:
        fit: ``fit(task)`` -> MethodOutput; it is passed ``settings``, ``seed`` and ``on_epoch`` where it has parameters
            of these names. ``on_epoch(logits, **losses)`` takes the (n, K) logits of the target's rows.
        load_model: makes the model of its state; None for a method that answers only the rows it was fitted on.
        settings: a frozen dataclass of plain fields with defaults; None without settings.
        citation: whom to cite.
        version: stands for the source where it is given; else the source's digest does.
    """

    name: str
    fit: Callable
    load_model: Callable | None = None
    settings: type | None = None
    citation: str = ""
    version: str | None = None

    @property
    def seeded(self) -> bool:
        """True if the method has randomness and runs once for each seed."""
        return "seed" in inspect.signature(self.fit).parameters

    def parse_settings(self, values: dict[str, Any], problems: list[str]) -> tuple[tuple[str, Any], ...]:
        """The settings that differ from their defaults, in the order of the fields; faults go to ``problems``."""
        from unimos_pipe.base.dataclass_parsing import collect_dataclass_errors

        if self.settings is None:
            problems += [f"{self.name} has no settings; got {', '.join(values)}"] if values else []
            return ()
        parsed = collect_dataclass_errors(self.settings, values, f"{self.name}.", problems)
        plain = self.settings()
        names = [entry.name for entry in fields(self.settings)]
        return tuple((name, getattr(parsed, name)) for name in names if getattr(parsed, name) != getattr(plain, name))

    def all_settings(self, changed: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        """Every setting by name, given those that differ from their defaults."""
        return {} if self.settings is None else asdict(self.settings(**dict(changed)))

    def bind(self, changed: tuple[tuple[str, Any], ...], seed: int, on_epoch: Callable | None = None) -> Callable:
        """``fit`` as a function of the task alone."""
        given: dict[str, Any] = {"seed": seed, "on_epoch": on_epoch or (lambda logits, **losses: None)}
        if self.settings is not None:
            given["settings"] = self.settings(**dict(changed))
        wanted = inspect.signature(self.fit).parameters
        given = {name: value for name, value in given.items() if name in wanted}
        return lambda task: self.fit(task, **given)


@dataclass(frozen=True)
class OutsideLoss:
    """A loss of UniMoS from outside the package; its weight is the option ``loss.NAME``, 0 by default."""

    name: str
    value: Callable  # of methods.unimos.loss_terms.Outputs -> (R,), one mean per stacked run
    term: str
    version: str | None = None


@dataclass(frozen=True)
class OutsideValidator:
    """A label-free validator from outside the package: ``score(probabilities, features)``, higher is better."""

    name: str
    score: Callable  # of the target's (n, K) probabilities and (n, H) features -> a number or a tensor of one


@dataclass(frozen=True)
class OutsideEncoder:
    """A frozen encoder of images and sentences from outside the package.

    Attributes:
        load: ``load(device)`` -> an object with ``encode_image(images)``, of (n, 3, H, W) float32 images, and
            ``encode_text(sentences)``, of n strings; both return (n, D) features, which are normalised afterwards.
        version: of weights and code; features of another version are encoded again.
        image_size: side H = W in pixels, to which images are resized (bicubic) and cropped.
        mean, std: of each channel, by which pixels in [0, 1] are normalised.
        logit_scale: 1/T that the model learned; None takes CLIP's 100.
    """

    name: str
    load: Callable
    version: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: float | None = None


_registered: dict[str, dict[str, Any]] = {METHODS: {}, LOSSES: {}, VALIDATORS: {}, ENCODERS: {}}
_loaded: dict[str, tuple[str, Path]] = {}  # module and folder of each imported plugin, by the name it was given


def add_method(method: OutsideMethod) -> None:
    """Make a method known by name.

    Raises:
        InputError: settings that are no dataclass with defaults, or a source that cannot be found and no version.
    """
    if method.settings is not None:
        if not is_dataclass(method.settings):
            raise InputError(f"settings of method {method.name}", expected="a dataclass", got=method.settings.__name__)
        try:
            method.settings()
        except TypeError as error:
            raise InputError(f"settings of method {method.name}: every field needs a default ({error})") from None
    _check_source(f"method {method.name}", method.fit, method.version)
    _registered[METHODS][method.name] = method


def add_loss(loss: OutsideLoss) -> None:
    """Make a loss known by name. Raises InputError where its source cannot be found and it has no version."""
    _check_source(f"loss {loss.name}", loss.value, loss.version)
    _registered[LOSSES][loss.name] = loss


def add_validator(validator: OutsideValidator) -> None:
    """Make a validator known by name."""
    _registered[VALIDATORS][validator.name] = validator


def add_encoder(encoder: OutsideEncoder) -> None:
    """Make an encoder known by name."""
    _registered[ENCODERS][encoder.name] = encoder


def _check_source(what: str, function: Callable, version: str | None) -> None:
    if version is None and getattr(sys.modules.get(inspect.unwrap(function).__module__), "__file__", None) is None:
        raise InputError(f"{what}: its source cannot be found, so that results could not be told apart; give version=")


def source_root(function: Callable) -> str:
    """Return the module of a function, or the path of the script that is being run."""
    module = inspect.unwrap(function).__module__
    return str(getattr(sys.modules.get(module), "__file__", module)) if module == "__main__" else module


@cache
def _entry_points(group: str) -> dict[str, str]:
    """The modules of a group's entry points, by name."""
    from importlib.metadata import entry_points  # takes a third of the time of --help

    return {entry.name: entry.value for entry in entry_points(group=f"unimos_pipe.{group}")}


def outside_names(group: str) -> list[str]:
    """The names of a group, registered or promised by an entry point; nothing is imported."""
    return sorted({*_registered[group], *_entry_points(group)})


def find_outside(group: str, name: str) -> Any:
    """Return the object registered by a name, or None. Imports the module of its entry point if needed.

    Raises:
        InputError: a module that cannot be imported, or does not register the name.
    """
    if name not in _registered[group] and name in _entry_points(group):
        module = _entry_points(group)[name]
        load_plugin(module)
        if name not in _registered[group]:
            raise InputError(f"plugin {module} registers no {name} when it is imported, as its entry point promises")
    return _registered[group].get(name)


def outside_method(name: str) -> OutsideMethod | None:
    """A method from outside by its name; None where there is none. Raises what :func:`find_outside` raises."""
    return find_outside(METHODS, name)


def load_plugin(module: str) -> None:
    """Import a module, or a file that ends in ``.py``, which registers what it brings.

    Raises:
        InputError: it cannot be imported.
    """
    path = Path(module).expanduser()
    folder, name = (path.resolve().parent, path.stem) if path.suffix == ".py" else (Path.cwd(), module)
    _import_plugin(module, name, folder)
    _loaded[module] = name, folder


def loaded_plugins() -> dict[str, tuple[str, Path]]:
    """Return the module and the folder of each plugin that :func:`load_plugin` has imported, by the name it was given.

    For :func:`load_plugins` in another process, whose current folder may be another one.
    """
    return dict(_loaded)


def load_plugins(plugins: Mapping[str, tuple[str, Path]]) -> None:
    """Import the plugins of another process. Raises InputError as :func:`load_plugin` does."""
    for module, (name, folder) in plugins.items():
        _import_plugin(module, name, folder)


def _import_plugin(module: str, name: str, folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        importlib.import_module(name)
    except Exception as error:  # a plugin may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(f"plugin {module} cannot be imported: {reason}") from error
