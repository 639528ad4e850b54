"""What the tests of the read side share."""

from __future__ import annotations

import pytest

from streamll._plugins import registry
from streamll.testing._source import MemorySource
from support.plugins import plugin_module


class ListSource(MemorySource):
    """What a plugin would register; keeps what it was made with."""

    def __init__(self, url, *, start, group=None, stream_key="events", block=5, quiet=False):
        super().__init__(start=start, group=group)
        self.made_with = {
            "url": url,
            "start": start,
            "group": group,
            "stream_key": stream_key,
            "block": block,
            "quiet": quiet,
        }


@pytest.fixture
def scheme():
    """``list://``, registered by a plugin."""

    def streamll_register_sources(register):
        register("list", ListSource, schemes=("list",))
        register("liar", lambda url, *, start, group: object(), schemes=("liar",))

    module = plugin_module(
        "streamll_list_plugin", streamll_register_sources=streamll_register_sources
    )
    registry().register(module, "list")
    yield "list"
    registry().unregister(module)


@pytest.fixture
def waits():
    """Seconds that were to be waited for; `never_wait` puts a reader up to it."""
    return []


@pytest.fixture
def never_wait(waits):
    """Make a stream or a consumer note its waits instead of waiting; returns it."""

    async def note(seconds):
        waits.append(seconds)

    def patch(reading):
        reader = reading._reader if hasattr(reading, "_reader") else reading._pull.reader
        reader.link.sleep = note
        if hasattr(reading, "_work"):
            reading._work.sleep = note
        return reading

    return patch
