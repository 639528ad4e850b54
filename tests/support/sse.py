"""The SSE example as it runs: its web process, a question, and the answer of its script."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from support.redis_server import wait_until
from support.snippets import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.redis_server import RedisServer

__all__ = ["ask", "story", "web"]

FOLDER = ROOT / "examples" / "sse_fastapi"


@contextlib.contextmanager
def web(server: RedisServer, port: int, delay: float = 0.02) -> Iterator[None]:
    """Run the web process; its workers take *delay* seconds for a word."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    environment = {**os.environ, "REDIS_URL": server.url, "DELAY": str(delay)}
    process = subprocess.Popen(command, cwd=FOLDER, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), "the web process")
        yield
    finally:
        process.kill()
        process.wait(10)


def answers(port: int) -> bool:
    """Return whether the page is there."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    return False


def ask(port: int) -> str:
    """Ask, and return the address of the answer's events."""
    body = {"text": "What did the keeper tell?"}
    answer = httpx.post(f"http://127.0.0.1:{port}/answers", json=body).json()["answer"]
    return f"http://127.0.0.1:{port}/answers/{answer}/events"


def story() -> str:
    """Return the answer of the script."""
    text = (FOLDER / "worker.py").read_text()
    scope: dict[str, str] = {}
    exec(text[text.index("STORY = (") : text.index("def model")], scope)
    return scope["STORY"]
