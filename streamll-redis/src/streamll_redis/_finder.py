"""Finding out who is who for the read side; the counterpart of `_discovery`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streamll import DeliveryError, PermanentError, TransientError
from streamll_redis._access import Access
from streamll_redis._address import Node
from streamll_redis._async_link import AsyncLink
from streamll_redis._discovery import ASK_PRIMARY, Rota
from streamll_redis._slots import Topology, is_primary, primary_of

__all__ = ["Finder"]


class Finder:
    """Makes links to whoever has a key."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._rota = Rota.of(access.address)
        self._home: Node | None = None
        self._topology = Topology()

    def link(self, key: str) -> AsyncLink:
        """Return a new link to whoever has *key*."""
        node = self._topology.node_of(key.encode()) or self._home
        return AsyncLink(self._access, self._access.origin(node))

    async def find(self) -> None:
        """Ask who is who.

        Raises:
            TransientError, PermanentError: when nobody answers; the first reason.
        """
        first: DeliveryError | None = None
        async for node in self._candidates():
            try:
                self._topology = await self._ask(node)
            except PermanentError:
                raise
            except DeliveryError as error:
                first = first or error
                self._rota.failed(node)
            else:
                self._home = node
                self._rota.learn(self._topology.nodes)
                return
        raise first or TransientError(f"no sentinel knows a primary: {self._access.address}")

    async def _candidates(self) -> AsyncIterator[Node | None]:
        if not self._rota.sentinels:
            for node in tuple(self._rota.servers):
                yield node
        for sentinel in tuple(self._rota.sentinels):
            primary = await self._primary(sentinel)
            if primary is None:
                self._rota.failed(sentinel)
            else:
                yield primary

    async def _primary(self, sentinel: Node) -> Node | None:
        link = AsyncLink(self._access, self._access.sentinel(sentinel))
        try:
            return primary_of(await link.ask(*ASK_PRIMARY, self._access.address.service.encode()))
        except TransientError:
            return None
        finally:
            link.drop()

    async def _ask(self, node: Node | None) -> Topology:
        link = AsyncLink(self._access, self._access.origin(node))
        try:
            if self._rota.sentinels and not is_primary(await link.ask(b"ROLE")):
                raise TransientError(f"Redis at {link.where} is no longer the primary")
            return Topology.parse(await link.ask(b"CLUSTER", b"SLOTS"), link.host)
        finally:
            link.drop()
