"""The double holds its caller to the contract."""

from __future__ import annotations

import asyncio

import pytest

from streamll import PermanentError, TransientError
from streamll.source import Start
from streamll.testing._source import MemorySource, MemoryStream
from support.events import body_of, make_event


def run(script):
    """Run an async test."""
    return asyncio.run(script())


def test_bodies_may_be_events_or_whatever_somebody_put_there():
    """Positions sort as they are delivered."""
    event = make_event()

    async def script():
        source = MemorySource([event, b"junk"])
        await source.open()
        first, second = await source.receive(1)
        assert (first.body, second.body) == (body_of(event), b"junk")
        assert first.position < second.position
        assert await source.receive(1) == []

    run(script)


def test_a_group_shares_and_a_close_gives_back_in_order():
    """What was received and not acked comes first, counted."""

    async def script():
        stream = MemoryStream([b"1", b"2", b"3", b"4"])
        a, b = (MemorySource(stream, group="g", batch=2) for _ in "ab")
        await a.open()
        await b.open()
        mine = await a.receive(1)
        assert [message.body for message in await b.receive(1)] == [b"3", b"4"]
        await a.ack(mine[:1])
        await a.close()
        [again] = await b.receive(1)
        assert (again.body, again.attempts) == (b"2", 2)

    run(script)


def test_what_an_earlier_connection_received_cannot_be_acked():
    """As strict as AMQP delivery tags."""

    async def script():
        source = MemorySource([b"1"], group="g")
        await source.open()
        messages = await source.receive(1)
        await source.close()
        await source.open()
        with pytest.raises(PermanentError):
            await source.ack(messages)

    run(script)


def test_a_closed_source_and_two_calls_at_once_are_mistakes_of_the_caller():
    """The contract of `Source`."""

    async def script():
        source = MemorySource()
        with pytest.raises(RuntimeError, match="closed"):
            await source.receive(1)
        await source.open()
        waiting = asyncio.ensure_future(source.receive(1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="while another"):
            await source.ack([])
        await waiting

    run(script)


def test_failures_are_scripted_by_method_and_number():
    """True is a lost connection."""

    async def script():
        source = MemorySource(fails=lambda method, number: (method, number) == ("receive", 2))
        await source.open()
        await source.receive(1)
        with pytest.raises(TransientError):
            await source.receive(1)
        assert source.calls["receive"] == 2

    run(script)


def test_a_start_from_now_sees_only_what_is_added_later():
    """Now is when it is opened."""

    async def script():
        stream = MemoryStream([b"old"])
        source = MemorySource(stream, start=Start())
        stream.add(b"before opening")
        await source.open()
        stream.add(b"new")
        assert [message.body for message in await source.receive(1)] == [b"new"]

    run(script)
