"""A local OpenAI-compatible server that plays a script over real HTTP, for tests of real clients.

Serves `/v1/chat/completions` and `/v1/responses`, whole or as server-sent events. It takes the
answers of `ScriptedLM`; an `HTTPFailure` among them is a response of that status, any other
error (and any error after the first chunk) cuts the connection.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import attrs

from streamll.testing._scripted_answer import to_usage
from streamll.testing._scripted_script import Answers, Script, to_source
from support.llm_wire import Chat, Cut, Json, Responses, played

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamll.testing._scripted_reply import Reply

__all__ = ["HTTPFailure", "LLMServer", "ReceivedRequest"]

Wire = type[Chat] | type[Responses]

_WIRES: dict[str, Wire] = {"/v1/chat/completions": Chat, "/v1/responses": Responses}


class HTTPFailure(Exception):
    """An answer that is an HTTP error; `retry_after` is in seconds."""

    def __init__(self, status: int, message: str = "scripted", retry_after: float | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@attrs.frozen
class ReceivedRequest:
    """One request as it came: path and JSON body."""

    path: str
    body: Json


class LLMServer:
    """A server on a free loopback port, for the length of a `with` block. Thread-safe.

    Use as `dspy.LM("openai/x", api_base=server.url, api_key="test")`.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        cycle: bool = False,
        delay: float = 0.0,
        usage: Mapping[str, int] | None = None,
    ) -> None:
        source = to_source(answers, cycle=cycle)
        self.script = Script(source=source, delay=delay, usage=to_usage(usage))
        self._requests: list[ReceivedRequest] = []
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        # A short poll only makes leaving the block quick; requests do not wait for it.
        serve = {"poll_interval": 0.02}
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs=serve, daemon=True)

    @property
    def url(self) -> str:
        """The base address, ending in /v1."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The requests so far, in the order in which they came."""
        return tuple(self._requests)

    def received(self, path: str, body: Json, messages: Sequence[Json]) -> list[Reply]:
        """Record a request and return one reply for each candidate it asks for."""
        self._requests.append(ReceivedRequest(path, body))
        stream = bool(body.get("stream"))
        count = body.get("n") or 1
        return [self.script.reply(messages, {}, stream=stream) for _ in range(count)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: LLMServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Answer one request."""
        wire = _WIRES[self.path]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        replies = self.server.owner.received(self.path, body, wire.messages(body))
        # One request per connection: no thread is left waiting when the server stops.
        self.close_connection = True
        # A client may leave early; and a cut is just the end, without the end of the message.
        with suppress(BrokenPipeError, ConnectionResetError, Cut):
            self._answer(wire, body, replies)

    def _answer(self, wire: Wire, body: Json, replies: list[Reply]) -> None:
        failure = replies[0].error
        if isinstance(failure, HTTPFailure) and not replies[0].pieces:
            self._send_failure(failure)
        elif body.get("stream"):
            self._send_events(wire.events(replies, body))
        else:
            for reply in replies:
                played(reply)
            self._send_json(200, wire.body(replies, body))

    def _send_failure(self, failure: HTTPFailure) -> None:
        error = {"message": failure.message, "type": "scripted", "code": str(failure.status)}
        seconds = failure.retry_after
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        self._send_json(failure.status, {"error": error}, **headers)

    def _send_json(self, status: int, value: Json, **headers: str) -> None:
        data = json.dumps(value).encode()
        self._send_head(status, {"Content-Length": str(len(data)), **headers}, "application/json")
        self.wfile.write(data)

    def _send_events(self, events: Iterator[str]) -> None:
        self._send_head(200, {"Transfer-Encoding": "chunked"}, "text/event-stream")
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, headers: Mapping[str, str], kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the tests look at `requests`."""
