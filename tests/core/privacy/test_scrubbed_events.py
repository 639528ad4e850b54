"""What leaves the process is scrubbed: payloads, context, errors, tokens; or it does not leave."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import groupby

import attrs
import dspy
import pytest

import streamll
from streamll import _runtime
from streamll.testing import ScriptedLM, capture_events
from support.events import body_of

MAIL = "bob@example.com"
URL = "amqp://bob:hunter2@host/"


def wire(events):
    """Everything that was sent, as text."""
    return json.dumps([json.loads(body_of(event)) for event in events], ensure_ascii=False)


def lost():
    """Why events were not accepted."""
    return dict(_runtime.current().lost)


def test_data_and_context_are_scrubbed_and_the_places_named():
    """At any depth, keys included; `redacted` holds JSON pointers (RFC 6901)."""
    with capture_events(scrub=True) as events:
        with streamll.context(user=MAIL, n=1):
            streamll.emit("x", {"a": {"b/c": [1, f"to {MAIL}"]}, MAIL: "v", "ok": "fine"})
    (event,) = events
    assert event.data == {"a": {"b/c": [1, "to [email]"]}, "[email]": "v", "ok": "fine"}
    assert event.context == {"user": "[email]", "n": 1}
    assert event.redacted == ("/data/a/b~1c/1", "/data/[email]", "/context/user")


def test_two_keys_that_become_one_label_keep_both_values():
    """Scrubbing loses no value."""
    with capture_events(scrub=True) as events:
        streamll.emit("x", {MAIL: 1, "eve@example.com": 2})
    assert events[0].data == {"[email]": 1, "[email]'": 2}


def test_an_error_is_scrubbed_with_its_message():
    """Exceptions quote what they choked on."""
    with capture_events(scrub=True) as events, pytest.raises(ValueError, match=MAIL):
        with streamll.trace("load"):
            raise ValueError(f"no user {MAIL}")
    assert MAIL not in wire(events)
    assert events[-1].data["message"] == "no user [email]"


def test_without_secrets_events_are_not_touched():
    """No marks where nothing was removed."""
    with capture_events(scrub=True) as events:
        streamll.emit("x", {"a": "fine"})
    assert events[0].redacted == ()


@pytest.mark.parametrize("scrub", [False, True])
def test_passwords_in_urls_and_under_secret_keys_are_always_removed(scrub):
    """Unasked, in data and context, and told in `redacted`."""
    with capture_events(scrub=scrub) as events, streamll.context(broker=URL):
        streamll.emit("x", {"u": f"at {URL}", "h": {"X-Api-Key": "k1", "clientSecret": [b"k2", 7]}})
    (event,) = events
    assert "hunter2" not in wire(events)
    assert event.data["u"] == "at amqp://[credentials]@host/"
    assert event.data["h"] == {"X-Api-Key": "[removed]", "clientSecret": "[removed]"}
    assert event.redacted == ("/data/u", "/data/h/X-Api-Key", "/data/h/clientSecret")


def test_a_secret_cut_by_a_size_cap_does_not_leave_its_beginning():
    """Of a cut string what may be half a secret is left out."""
    with capture_events(scrub=True, max_string=25) as events:
        streamll.emit("x", {"card": "number: 4111 1111 1111 1111 1", MAIL: "y" * 26})
    (event,) = events
    assert event.data["card"] == "number: "
    assert event.truncated == {"/data/card": 29, "/data/[email]": 26}


def test_a_processor_cannot_put_a_secret_in_behind_the_scrubber():
    """The scrubber runs last; objects it cannot look into become their type's name."""

    @attrs.define
    class User:
        mail: str = MAIL

    def enrich(event):
        return event.replace(data={**event.data, "mail": MAIL, "user": User()})

    with capture_events(scrub=True, processors=[enrich]) as events:
        streamll.emit("x", {"n": 1})
    assert MAIL not in wire(events)
    assert events[0].data["mail"] == "[email]"
    assert list(events[0].data["user"]) == ["$type"]


def test_a_function_that_raises_costs_the_event_and_is_counted():
    """S9: fails closed, with no raw event on the wire and no gap in the numbers."""

    def picky(text):
        if "secret" in text:
            raise RuntimeError(text)
        return text

    with capture_events(scrub=[picky]) as events:
        with streamll.trace("t") as span:
            span.emit("bad", {"k": "secret"})
            span.emit("good", {"k": "fine"})
        assert lost() == {"processor_error": 1}
    assert [event.event_type for event in events] == ["start", "good", "end"]
    assert [event.sequence for event in events] == [1, 2, 3]


def test_a_function_that_returns_no_string_fails_closed():
    """A mistake in it must not send the raw text."""
    with capture_events(scrub=[lambda text: None]) as events:
        streamll.emit("x", {"k": "secret"})
        assert lost() == {"processor_error": 1}
    assert events == []


BAD = [
    ("email", "scrub must be True or a list"),
    (1, "scrub must be True or a list"),
    (["emial"], "unknown pattern of scrub 'emial'; did you mean 'email'"),
    ([3], "scrub takes pattern names, compiled expressions and functions, not int"),
    ([re.compile(b"x")], "not Pattern"),
]


@pytest.mark.parametrize(("scrub", "message"), BAD)
def test_a_bad_scrub_option_is_refused_with_what_to_write(scrub, message):
    """At configure time."""
    with pytest.raises(streamll.ConfigurationError, match=re.escape(message)):
        streamll.configure(sinks=[], scrub=scrub)


TEXT = f"Write to {MAIL} or {URL} and pay 4111 1111 1111 1111."
SAFE = "Write to [email] or amqp://[credentials]@host/ and pay [credit_card]."


def answers(chunk, text=TEXT, **options):
    """The events of one call whose answer is *text*, streamed in pieces of *chunk*."""
    lm = ScriptedLM([{"answer": text, "reasoning": f"ask {MAIL}"}], chunk=chunk)
    with capture_events(**options) as events, dspy.context(lm=lm):
        dspy.ChainOfThought("question -> answer")(question="who?")
    return events


def tokens(events, field):
    """The token events of one field."""
    return [e for e in events if e.event_type == "token" and e.data.get("field") == field]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, "word", 1000])
def test_a_secret_split_over_tokens_does_not_leak(chunk):
    """R4: tokens join to the scrubbed answer; the end event says the same."""
    events = answers(chunk, scrub=True)
    assert not any(secret in wire(events) for secret in (MAIL, "hunter2", "4111 ", "bob"))
    assert "".join(e.data["token"] for e in tokens(events, "answer")) == SAFE
    assert "".join(e.data["token"] for e in tokens(events, "reasoning")) == "ask [email]"
    (end,) = [e for e in events if e.event_type == "end" and e.name == "ChainOfThought"]
    outputs = end.data["outputs"]
    assert (outputs if isinstance(outputs, Mapping) else {})["answer"] == SAFE


def test_tokens_that_lack_something_say_so_and_their_numbers_fit():
    """`redacted` on those only; index and offset count what was sent."""
    got = tokens(answers(2, scrub=True), "answer")
    assert {e.redacted for e in got} == {(), ("/data/token",)}
    assert all(("[" in e.data["token"]) == bool(e.redacted) for e in got if e.data["token"] != "[")
    assert [e.data["index"] for e in got] == list(range(len(got)))
    length = 0
    for event in got:
        assert event.data["offset"] == length
        length += len(event.data["token"])


def test_url_passwords_never_stream_even_without_scrub():
    """The always-on rule holds for tokens cut anywhere."""
    events = answers(1)
    assert "hunter2" not in wire(events)
    joined = "".join(e.data["token"] for e in tokens(events, "answer"))
    assert joined == TEXT.replace("bob:hunter2", "[credentials]")


def test_a_function_that_raises_on_a_streamed_text_sends_none_of_it():
    """Tokens fail closed as well, and the program does not notice."""

    def picky(text):
        if MAIL in text:
            raise RuntimeError
        return text

    events = answers(3, scrub=[picky])
    assert MAIL not in wire(events)
    assert tokens(events, "answer") == []


def test_fields_come_out_in_order():
    """What is held of a field is sent when the field ends, not at the end of the call."""
    fields = [e.data["field"] for e in answers(1, "ask bob", scrub=True) if e.event_type == "token"]
    assert sorted(field for field, _ in groupby(fields)) == ["answer", "reasoning"]


@pytest.mark.parametrize("shown", range(1, len(MAIL)))
@pytest.mark.parametrize("place", [2_000, 32_768])
def test_a_secret_at_the_cut_of_an_error_message_leaves_no_fragment(place, shown):
    """A long message is scrubbed before it is cut, or what may be half a secret is held back."""
    message = "x" * (place - shown - 1) + " " + MAIL
    with capture_events(scrub=True) as events, pytest.raises(KeyError), streamll.trace("t"):
        raise KeyError(message)
    error = events[-1]
    assert error.event_type == "error"
    assert error.data["message"].strip("'x ") in {"", "[email]"}


def test_a_long_traceback_keeps_whole_entries_of_the_innermost_frames():
    """No line of source is cut in two, where a secret could be; the place of the error stays."""

    def down(depth):
        if depth == 0:
            raise KeyError("deep")
        further(depth)

    def further(depth):
        down(depth - 1)

    with capture_events() as events, pytest.raises(KeyError), streamll.trace("t"):
        down(200)
    trace = events[-1].data["traceback"]
    assert trace.startswith("  File ")
    assert 'raise KeyError("deep")' in trace
    assert len(trace) <= 8_000
