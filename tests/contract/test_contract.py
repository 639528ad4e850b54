"""Every sink of ours passes the suite that strangers are offered."""

from __future__ import annotations

import io

import pytest

import streamll
from streamll.sinks import TerminalSink
from streamll.testing import MemorySink, SinkContract
from streamll_terminal._lines import LineStyle, line


class TestMemorySink(SinkContract):
    """The simplest sink."""

    def make_sink(self):
        return MemorySink()

    def read(self, sink):
        return sink.events


class TestTerminalSink(SinkContract):
    """Lines are compared: what the terminal shows of an event."""

    def make_sink(self):
        self.out = io.StringIO()
        return TerminalSink(file=self.out, max_chars=1_000_000)

    def read(self, sink):
        return self.out.getvalue().splitlines()

    def key(self, item):
        style = LineStyle(color=False, ascii=False, max_chars=1_000_000)
        return item if isinstance(item, str) else line(item, style)

    def make_unreachable_sink(self):
        closed = io.StringIO()
        closed.close()
        return TerminalSink(file=closed)


class AsyncMemorySink(streamll.AsyncSink):
    """Its async twin."""

    def __init__(self, **delivery):
        super().__init__(**delivery)
        self.bodies = []

    async def write(self, batch):
        self.bodies.extend(batch.bodies)


class TestAsyncMemorySink(SinkContract):
    """Read back as JSON bodies."""

    def make_sink(self):
        return AsyncMemorySink()

    def read(self, sink):
        return sink.bodies


BREAKERS = {
    "loses the last event": lambda kept: kept[:-1],
    "reorders": lambda kept: list(reversed(kept)),
    "duplicates": lambda kept: kept + kept[:1],
}


@pytest.mark.parametrize("mistake", BREAKERS)
def test_the_contract_catches_a_sink_that_does_not_deliver(mistake):
    """A sink that loses, reorders or invents events fails with the rule as a sentence."""

    class Wrong(SinkContract):
        def make_sink(self):
            return MemorySink()

        def read(self, sink):
            return BREAKERS[mistake](sink.events)

    with pytest.raises(
        AssertionError, match=r"Wrong breaks the sink contract: write\(\) changed, lost"
    ):
        Wrong().test_a_batch_is_delivered_whole_and_in_order()


def test_the_contract_catches_a_sink_that_swallows_errors():
    """Silent success with the other end down is found."""

    class Silent(SinkContract):
        def make_unreachable_sink(self):
            return MemorySink()

    with pytest.raises(AssertionError, match="told of no failure"):
        Silent().test_a_failure_is_told_and_never_swallowed()


def test_the_contract_catches_a_foreign_exception():
    """A client's own exception is not the vocabulary of delivery."""

    class Raises(streamll.Sink):
        def write(self, batch):
            raise ConnectionError("x")

    class Foreign(SinkContract):
        def make_unreachable_sink(self):
            return Raises()

    with pytest.raises(AssertionError, match="not ConnectionError"):
        Foreign().test_a_failure_is_told_and_never_swallowed()
