"""The web process: starts answers and sends their tokens to the page. It remembers nothing."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

import streamll
from streamll import Event

HERE = Path(__file__).parent
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")

app = FastAPI()


class Question(BaseModel):
    text: str


@app.get("/")
def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.post("/answers")
def ask(question: Question) -> dict[str, str]:
    """Start a worker, which outlives this process, and return the id of its answer."""
    answer = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(8)}"
    command = [sys.executable, str(HERE / "worker.py"), answer, question.text]
    subprocess.Popen(command, start_new_session=True)
    return {"answer": answer}


@app.get("/answers/{answer}/events")
async def events(answer: str, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
    """Send the tokens of an answer after the one the browser saw last."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies must not wait
    stream = server_sent(answer, begun(answer), last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def begun(answer: str) -> datetime:
    """Read the time in the id of an answer, a minute early: clocks differ."""
    milliseconds, _, _ = answer.partition("-")
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) - timedelta(minutes=1)
    except (ValueError, OverflowError, OSError):
        raise HTTPException(404, "no such answer") from None


async def server_sent(answer: str, since: datetime, seen: int) -> AsyncIterator[str]:
    stream = streamll.consume(REDIS_URL, stream_key="answers", since=since)
    async for event in stream:
        if (event.context or {}).get("answer") != answer or event.sequence <= seen:
            continue
        kind = kind_of(event)
        if kind is None:
            continue
        data = json.dumps(event.data.get("token"))
        yield f"id: {event.sequence}\nevent: {kind}\ndata: {data}\n\n"
        if kind in ("end", "error"):
            return


def kind_of(event: Event) -> str | None:
    """Return what the page does about *event*; None is nothing."""
    if event.operation == "llm_call":
        return event.event_type if event.event_type in ("token", "reset") else None
    is_program = event.parent_span_id is None
    return event.event_type if is_program and event.event_type in ("end", "error") else None
