"""The SSE example: text that goes on over reloads, lost connections and a new web process."""

from __future__ import annotations

import json

import httpx
import pytest

from support.rabbitmq_server import free_port
from support.sse import ask, story, web

pytestmark = pytest.mark.broker


def follow(url, last=0, tokens=None):
    """Read as a browser does; returns text, last id, and whether it is the end.

    Hangs up after so many *tokens*; None reads to the end.
    """
    text, kind = [], ""
    headers = {"Last-Event-ID": str(last)} if last else {}
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                assert int(value) > last
                last = int(value)
            elif name == "event":
                kind = value
            elif name == "data" and kind == "token":
                text.append(json.loads(value))
            if len(text) == tokens:
                return "".join(text), last, False
    return "".join(text), last, kind == "end"


def test_the_answer_comes_whole_and_ends(redis_server):
    """Concatenated tokens are the answer; the connection ends with it; a reload shows it again."""
    port = free_port()
    with web(redis_server, port):
        url = ask(port)
        for _ in range(2):
            text, _, ended = follow(url)
            assert text == story()
            assert ended


def test_a_browser_that_reconnects_gets_the_rest(redis_server):
    """Whatever the browser has seen is not sent again, whatever it has not is sent."""
    port, parts, last = free_port(), [], 0
    with web(redis_server, port):
        url = ask(port)
        for _ in range(4):
            text, last, _ = follow(url, last, tokens=7)
            parts.append(text)
        text, _, ended = follow(url, last)
    assert "".join([*parts, text]) == story()
    assert ended


def test_a_restarted_web_process_goes_on_with_the_text(redis_server):
    """The web process remembers nothing: another one continues where it was killed."""
    port = free_port()
    with web(redis_server, port):
        url = ask(port)
        first, last, ended = follow(url, tokens=5)
        assert not ended
    with web(redis_server, port):
        rest, _, ended = follow(url, last)
    assert first + rest == story()
    assert ended


def test_an_answer_nobody_asked_for_is_not_found(redis_server):
    """An id that is none is refused, not waited for."""
    port = free_port()
    with web(redis_server, port):
        assert httpx.get(f"http://127.0.0.1:{port}/answers/x/events").status_code == 404
