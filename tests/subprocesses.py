"""The programs of pipelines/, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROGRAMS = Path(__file__).parents[1] / "pipelines"


def program(name: str) -> ModuleType:
    """Import ``pipelines/<name>.py``."""
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
