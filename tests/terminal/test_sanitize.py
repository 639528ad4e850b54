"""Text from models, tools and documents cannot steer a terminal."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll_terminal import TerminalSink
from streamll_terminal._sanitize import json_text, plain, quoted
from terminal.building import make_batch, make_event, token

if TYPE_CHECKING:
    from streamll import Event

HOSTILE = (
    "\x00\x07\x08\t\n\r\x0b\x1b\x7f\x85\x90\x9b\x9d\u2028\u2029\u202a\u202e\u2066\u2069\ud800\udfff"
)
ACTS_ON_TERMINAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
OWN_COLORS = re.compile(r"\x1b\[\d(;?\d+)*m")

texts = st.text(st.one_of(st.characters(), st.sampled_from(HOSTILE)), max_size=30)
scalars = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.floats())
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
payloads = st.dictionaries(
    texts | st.sampled_from(["token", "type", "message", "reason", "total_tokens"]), values
)
kinds = texts | st.sampled_from(["start", "token", "end", "error", "cancel", "reset", "dropped"])
hostile_events = st.builds(
    make_event,
    kinds,
    payloads,
    operation=texts | st.sampled_from(["llm_call", "module_forward", "tool_call"]),
    name=st.none() | texts,
    module_name=st.none() | texts,
    duration_ms=st.none() | st.floats(),
)

SEQUENCES = {
    "CSI": "\x1b[2J\x1b[31mred",
    "OSC 0": "\x1b]0;title\x07",
    "OSC 8": "\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\",
    "OSC 52": "\x1b]52;c;ZXZpbA==\x07",
    "DCS": "\x1bP+q544e\x1b\\",
    "APC": "\x1b_G\x1b\\",
    "C1 CSI": "\x9b31m",
    "C1 OSC": "\x9d0;title\x9c",
    "overwrite": "safe\r\x08\x08evil",
}


def shown(*events: Event, color: bool = False) -> str:
    """Return what the sink writes for *events*."""
    stream = io.StringIO()
    assert TerminalSink(file=stream, color=color, ascii=False).write(make_batch(*events)) is None
    return stream.getvalue()


@given(st.lists(hostile_events, max_size=4), st.booleans())
def test_any_event_is_one_harmless_line(events: list[Event], color: bool) -> None:
    """Whatever data holds: as many lines as events, and no control but our own colours."""
    text = shown(*events, color=color)
    harmless = OWN_COLORS.sub("", text) if color else text
    assert len(harmless.splitlines()) == len(events)
    assert not ACTS_ON_TERMINAL.search(harmless.replace("\n", ""))
    text.encode("utf-8")


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_sequences_split_over_tokens(sequence: str) -> None:
    """A sequence cut at any position, or into single characters, never re-forms."""
    for cut in range(len(sequence) + 1):
        text = shown(token(sequence[:cut]), token(sequence[cut:]))
        assert not ACTS_ON_TERMINAL.search(text.replace("\n", ""))
    assert not ACTS_ON_TERMINAL.search(shown(*map(token, sequence)).replace("\n", ""))


@given(texts)
def test_quoted_text_is_a_python_literal(text: str) -> None:
    """What is shown between quotes is unambiguous: Python reads the same text back."""
    assert ast.literal_eval(quoted(text)) == text


@given(texts)
def test_plain_text_keeps_what_is_harmless(text: str) -> None:
    """Outside quotes only controls change."""
    kept = "".join(char for char in text if not ACTS_ON_TERMINAL.match(char))
    assert plain(kept) == kept
    assert not ACTS_ON_TERMINAL.search(plain(text))


@given(values.filter(lambda value: value == value))  # noqa: PLR0124 - NaN never equals itself
def test_json_stays_json(value: Any) -> None:
    """Escaping what JSON lets through does not change the value."""
    text = json.dumps(value, ensure_ascii=False)
    assert json.dumps(json.loads(json_text(text))) == json.dumps(value)


def test_escapes_read_like_python() -> None:
    """Newlines, tabs, quotes, escapes and overrides look as in a Python literal."""
    assert quoted("a\n\tb'c\\\x1b[0m\x9b\u202e") == r"'a\n\tb\'c\\\x1b[0m\x9b\u202e'"


def test_every_listed_control_is_escaped() -> None:
    """The ranges have no gap at their ends."""
    ranges = ((0, 0x20), (0x7F, 0xA0), (0x202A, 0x202F), (0x2066, 0x206A), (0xD800, 0xE000))
    codes = itertools.chain.from_iterable(range(*ends) for ends in ranges)
    assert all(plain(chr(code)).startswith("\\") for code in codes)
    assert plain("é 漢字 👩\u200d🚀 \xa0") == "é 漢字 👩\u200d🚀 \xa0"
