"""One stream key and how far it was read: alone, without a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from streamll import TransientError
from streamll.source import Message
from streamll_redis._async_link import AsyncLink
from streamll_redis._connection import Reply
from streamll_redis._entries import entries_of, message_of
from streamll_redis._errors import Refusal
from streamll_redis._positions import BEGINNING
from streamll_redis._settings import ReadSettings

__all__ = ["Lane", "asked", "checked"]

#: Refusals of a blocked read that are over with the next connection: the server became a
#: replica, the key was deleted, the slot moved.
_PASSING: Final = frozenset({"UNBLOCKED", "NOGROUP", "MOVED", "ASK"})


def checked(reply: Reply, where: str) -> Reply:
    """Return *reply*.

    Raises:
        TransientError, PermanentError: when it is a refusal.
    """
    if isinstance(reply, Refusal):
        if reply.code in _PASSING:
            raise TransientError(f"Redis at {where} has the stream no longer: {reply.code}")
        raise reply.as_error(where, "to read")
    return reply


async def asked(link: AsyncLink | None, *arguments: bytes, patience: float = 0.0) -> Reply:
    """Ask over *link*; raises as `AsyncLink.ask` and `checked`."""
    if link is None:
        raise TransientError("the source is not open")
    return checked(await link.ask(*arguments, patience=patience), link.where)


@attrs.define(eq=False)
class Lane:
    """Reads one stream key over a connection of its own, which may block.

    Attributes:
        key: of the stream.
        position: id of the last entry received; None until "now" is known.
        settings: of the source.
    """

    key: str
    position: str | None
    settings: ReadSettings
    _link: AsyncLink | None = None

    async def open(self, link: AsyncLink) -> None:
        """Go on after `position` over a new link."""
        self._link = link
        if self.position is None:
            self.position = await self._newest()

    async def _newest(self) -> str:
        """Return the last id there is: asked once, so nothing is lost between two reads."""
        reply = await asked(self._link, b"XREVRANGE", self._name, b"+", b"-", b"COUNT", b"1")
        return reply[0][0].decode() if reply else BEGINNING

    async def read(self) -> Sequence[Message]:
        """Return the next entries; none when the server has waited long enough."""
        settings = self.settings
        command = (b"XREAD", b"COUNT", b"%d" % settings.count, *self._block(), b"STREAMS")
        position = (self.position or BEGINNING).encode()
        reply = await asked(self._link, *command, self._name, position, patience=settings.block)
        return [message_of(entry, self.key) for entry in entries_of(reply)]

    def took(self, messages: Sequence[Message]) -> None:
        """Move on: *messages* are with the consumer."""
        self.position = messages[-1].position

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.drop()

    @property
    def _name(self) -> bytes:
        return self.key.encode()

    def _block(self) -> tuple[bytes, bytes]:
        return b"BLOCK", b"%d" % max(1, round(self.settings.block * 1000))
