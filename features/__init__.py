"""Feast, for any module of this package that imports it, without two things that made every process's start slow.

Feast lets typeguard rewrite its classes, which parses a whole module again for each method (4.5 s of processor time),
and imports torch for readers that ask for tensors (2.3 s, 200 MB): here torch is imported when it is asked for.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import typeguard


def _as_written(target: Any = None, **options: Any) -> Any:
    """Instead of ``typeguard.typechecked``: what it decorates stays as it was written."""
    return target if target is not None else lambda decorated: decorated


typeguard.typechecked = _as_written
_wrapper: Any = ModuleType("feast.torch_wrapper")
_wrapper.get_torch = lambda: importlib.import_module("torch")
sys.modules.setdefault(_wrapper.__name__, _wrapper)
