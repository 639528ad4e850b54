"""Where each module stands in its program: `module_path`, e.g. ``self.steps[0].predict``.

Paths are those of DSPy's `named_sub_modules`, without the ``self.``. Only containers that may
hold modules are looked into, and no more than `_MOST` of their items: a program may carry a
corpus of millions along.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import attrs
import dspy

__all__ = ["paths_of", "search_again"]

#: Items looked at in one search, about 2 ms.
_MOST: Final = 10_000
#: Items looked at of one list, tuple or dict.
_WIDEST: Final = 1_000
#: Searches in vain after which a program is taken for one that makes modules as it runs.
_PATIENCE: Final = 3

Found = Mapping[int, str]
_NONE: Final[Found] = {}


@attrs.define(eq=False)
class _Known:
    """What is known of one program: id of a module -> its path."""

    root: weakref.ref[Any]
    paths: Found = _NONE
    in_vain: int = 0


#: By id, not by the module: it may compare by value, or have no hash.
_known: dict[int, _Known] = {}


def paths_of(root: Any) -> Found:
    """Return what is known of the modules in *root*, by their ids; nothing at first."""
    known = _known.get(id(root))
    return known.paths if known is not None and known.root() is root else _NONE


def search_again(root: Any) -> Found:
    """Look for the modules in *root*, unless that was in vain often enough."""
    known = _known.get(id(root))
    if known is None or known.root() is not root:
        known = _known[id(root)] = _Known(weakref.ref(root, _forgetting(id(root))))
    if known.in_vain < _PATIENCE:
        found = dict(_walk(root))
        known.in_vain = known.in_vain + 1 if found.keys() == known.paths.keys() else 0
        known.paths = found
    return known.paths


def _forgetting(key: int) -> Any:
    def forget(reference: weakref.ref[Any]) -> None:
        known = _known.get(key)
        if known is not None and known.root is reference:
            _known.pop(key, None)

    return forget


def _walk(root: Any) -> Iterator[tuple[int, str]]:
    """Yield id and path of every module, breadth first as DSPy does, each once."""
    waiting, seen = deque([("self", root)]), {id(root)}
    while waiting:
        path, item = waiting.popleft()
        if isinstance(item, dspy.Module):
            yield id(item), path.removeprefix("self.")
        for step, below in _below(item):
            if len(seen) < _MOST and id(below) not in seen:
                seen.add(id(below))
                if isinstance(below, (dspy.Module, list, tuple, dict)):
                    waiting.append((f"{path}{step}", below))


def _below(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dspy.Module):
        attributes = object.__getattribute__(item, "__dict__")
        return ((f".{name}", value) for name, value in tuple(attributes.items()))
    if isinstance(item, dict):
        # In C, so that another thread cannot change it meanwhile.
        return ((f"[{_key(key)}]", value) for key, value in list(islice(item.items(), _WIDEST)))
    return ((f"[{at}]", value) for at, value in enumerate(list(islice(item, _WIDEST))))


def _key(key: Any) -> str:
    return str(key) if isinstance(key, (str, int)) else type(key).__name__
