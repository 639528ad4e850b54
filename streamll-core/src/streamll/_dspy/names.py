"""What a module is called: `module_name` and `module_path`.

`module_name` is the nearest module the user wrote: DSPy's own (Predict, ChainOfThought ...)
belong to the module they work in, so that the tokens of an LM call inside ``RAGPipeline``
are routed as ``rag_pipeline``, as the guide shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from streamll._capture import CaptureOptions
from streamll._dspy.paths import paths_of, search_again
from streamll._spans import Span
from streamll.templates import snake_case

__all__ = ["fields_of", "name_module", "note_fields"]

_snake_case = lru_cache(maxsize=1_024)(snake_case)


class _Root:
    """The outermost module of an execution: paths are relative to it.

    `fields` are the output fields that modules of the execution asked for.
    """

    __slots__ = ("fields", "module", "searched")

    def __init__(self, module: Any) -> None:
        self.module = module
        self.fields: set[str] = set()
        self.searched = False

    def path_of(self, module: Any) -> str | None:
        if module is self.module:
            return None
        known = paths_of(self.module)
        if id(module) not in known and not self.searched:
            # Once per execution: a module made inside forward() is in no tree.
            self.searched = True
            known = search_again(self.module)
        return known.get(id(module))


def name_module(span: Span, module: Any, options: CaptureOptions | None) -> None:
    """Set `module_name` and `module_path` of a module's span."""
    kind = type(module)
    if options is not None and options.name is not None:
        span.module_name = options.name
    elif kind.__module__.partition(".")[0] != "dspy" or span.module_name is None:
        span.module_name = _snake_case(kind.__name__)
    if span.execution.root is None:
        span.execution.root = _Root(module)
    span.module_path = _path(span.execution.root, module) or span.module_path


def _path(root: Any, module: Any) -> str | None:
    try:
        found: str | None = root.path_of(module)
    except Exception:  # noqa: BLE001 - a container that cannot be read, a module without weakrefs
        return None
    return found


def note_fields(span: Span, names: Iterable[str]) -> None:
    """Note the output fields that a module asks for."""
    if span.execution.root is not None:
        span.execution.root.fields.update(names)


def fields_of(span: Span) -> frozenset[str]:
    """Return the output fields that modules of this execution have asked for so far."""
    root = span.execution.root
    return frozenset(root.fields) if root is not None else frozenset()
