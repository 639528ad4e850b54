"""Rendering output fields the way the adapter that wrote the prompt will parse them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

__all__ = ["Message", "last_user_text", "render", "requested_fields"]

Message = Mapping[str, Any]

# The sentences by which DSPy's adapters ask for their format, in dspy 3.0 to 3.4.
_JSON_RULES: Final = ("Outputs will be a JSON object", "Respond with a JSON object")
_XML_RULE: Final = "wrapped in XML tags"
_REQUEST: Final = re.compile(r"Respond with (?:the corresponding output fields|a JSON object).*")
_QUOTED_FIELD: Final = re.compile(r"`\W*(\w+)\W*`")


def last_user_text(messages: Sequence[Message]) -> str:
    """Return the text of the last user message, or "" if there is none."""
    texts = (str(m["content"]) for m in reversed(messages) if m["role"] == "user")
    return next(texts, "")


def requested_fields(messages: Sequence[Message]) -> tuple[str, ...]:
    """Return the output fields that the last user message asks for, in their order.

    Works for prompts of ChatAdapter, JSONAdapter and XMLAdapter; empty for any other prompt.
    """
    requests = _REQUEST.findall(last_user_text(messages))
    names = _QUOTED_FIELD.findall(requests[-1]) if requests else []
    return tuple(name for name in names if name != "completed")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _chat(fields: Mapping[str, Any]) -> str:
    sections = [f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in fields.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(dict(fields), indent=2, ensure_ascii=False)


def _xml(fields: Mapping[str, Any], *, escaped: bool) -> str:
    texts = {name: _plain(value) for name, value in fields.items()}
    shown = {name: escape(text) if escaped else text for name, text in texts.items()}
    return "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in shown.items())


def render(fields: Mapping[str, Any], messages: Sequence[Message], *, escape_xml: bool) -> str:
    """Render *fields* for the adapter that wrote *messages*; ChatAdapter's if in doubt.

    Args:
        fields: values by output field name; anything but a str is written as JSON.
        messages: the prompt, as `{"role": ..., "content": str}` mappings.
        escape_xml: whether XMLAdapter reads real XML (dspy 3.3 on) or takes text as it is.
    """
    system = "\n".join(str(m["content"]) for m in messages if m["role"] == "system")
    request = f"{system}\n{last_user_text(messages)}"
    if any(rule in request for rule in _JSON_RULES):
        return _json(fields)
    if _XML_RULE in request:
        return _xml(fields, escaped=escape_xml)
    return _chat(fields)
