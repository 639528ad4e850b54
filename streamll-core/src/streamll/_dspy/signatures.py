"""What is asked of a signature, once: DSPy derives it from the model's fields at every look."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import attrs

from streamll._tokens import OutputFields

__all__ = ["Facts", "facts_of"]


@attrs.frozen(eq=False)
class Facts:
    """Of one signature class; these do not change, every change makes a new class.

    Attributes:
        text: e.g. "question -> answer".
        outputs: name -> annotation of each output field.
        wanted: fields that were chosen -> which of the outputs stream.
    """

    text: str | None
    outputs: dict[str, Any]
    wanted: dict[frozenset[str] | None, OutputFields] = attrs.field(factory=dict)


_NONE = Facts(None, {})
_facts: WeakKeyDictionary[Any, Facts] = WeakKeyDictionary()


def facts_of(signature: Any) -> Facts:
    """Return the facts of a `dspy.Signature` class; none of anything else."""
    if not isinstance(signature, type):
        return _NONE
    known = _facts.get(signature)
    return known if known is not None else _learn(signature)


def _learn(signature: Any) -> Facts:
    fields = getattr(signature, "output_fields", {})
    outputs = {name: info.annotation for name, info in fields.items()}
    facts = _facts[signature] = Facts(getattr(signature, "signature", None), outputs)
    return facts
