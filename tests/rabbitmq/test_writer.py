"""Frames packed by hand are the frames pamqp packs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from streamll_rabbitmq._address import Address
from streamll_rabbitmq._codec import Codec
from streamll_rabbitmq._settings import RabbitMQSettings
from streamll_rabbitmq._writer import Framer, _chunks
from support.events import make_event


def make_framer(frame_max: int = 131_072, **options: Any) -> tuple[Codec, Framer]:
    """Return a codec and the framer that belongs to it."""
    settings = RabbitMQSettings(addresses=(Address(),), **options)
    return Codec(settings), Framer(1, settings, frame_max)


def unpacked(data: bytes) -> list[Any]:
    """Return the frames in *data* as pamqp reads them."""
    found = []
    while data:
        size, channel, read = frame.unmarshal(data)
        assert channel == 1
        found.append(read)
        data = data[size:]
    return found


@given(body=st.binary(min_size=0, max_size=3000), mandatory=st.booleans())
def test_frames_read_back_as_method_header_and_body(body: bytes, mandatory: bool) -> None:
    """Whatever the size of the body, cut at the broker's frame size."""
    codec, framer = make_framer(frame_max=512, mandatory=mandatory, exchange="ai")
    method, header, *parts = unpacked(framer.frames(codec.message(make_event(), body)))
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key) == ("ai", "streamll.llm_call.token")
    assert (method.mandatory, method.immediate) == (mandatory, False)
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(body)
    assert all(isinstance(part, ContentBody) and len(part) <= 504 for part in parts)
    assert b"".join(part.value for part in parts) == body


@given(sizes=st.lists(st.integers(0, 200_000), max_size=12), limit=st.integers(1, 5))
def test_chunks_keep_order_and_lose_nothing(sizes: list[int], limit: int) -> None:
    """Each chunk holds at most *limit* messages, and at least one however large."""
    codec, framer = make_framer()
    messages = [codec.message(make_event(), bytes(size)) for size in sizes]
    chunks = list(_chunks(framer, messages, limit))
    assert [message for chunk in chunks for message, _ in chunk] == messages
    assert all(0 < len(chunk) <= limit for chunk in chunks)


def test_a_chunk_holds_no_event_twice() -> None:
    """Of the same event only one copy goes out."""
    codec, framer = make_framer()
    message, other = codec.message(make_event(), b"{}"), codec.message(make_event(), b"{}")
    (chunk,) = _chunks(framer, [message, other, message], 10)
    assert [item for item, _ in chunk] == [message, other]
