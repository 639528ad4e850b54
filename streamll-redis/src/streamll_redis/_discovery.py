"""Finding out who is who behind one address, by asking: a server, sentinels, a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from streamll import DeliveryError, PermanentError, TransientError
from streamll_redis._access import Access, Origin
from streamll_redis._address import Address, Node
from streamll_redis._connection import Link
from streamll_redis._deadline import Deadline
from streamll_redis._slots import Topology, is_primary, primary_of

__all__ = ["ASK_PRIMARY", "Discovery", "Found", "Rota"]

#: What a sentinel is asked, before the name of the service.
ASK_PRIMARY: Final = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME")


@attrs.frozen
class Found:
    """Who answered.

    Attributes:
        home: the server that has all keys; None for the address itself.
        topology: who has which keys, in a cluster.
        link: connected to whoever answered.
    """

    home: Node | None
    topology: Topology
    link: Link


@attrs.define
class Rota:
    """Whom to ask, in order; whoever did not answer is asked last the next time.

    Attributes:
        sentinels: who may know the primary; empty without sentinels.
        servers: who may know the cluster; None is the address the user gave.
    """

    sentinels: list[Node]
    servers: list[Node | None] = attrs.field(factory=lambda: [None])

    @classmethod
    def of(cls, address: Address) -> Rota:
        """Begin with what the user gave."""
        return cls(list(address.sentinels))

    def learn(self, nodes: Iterable[Node]) -> None:
        """Remember the servers of a cluster: the address may be of one that dies."""
        self.servers += [node for node in nodes if node not in self.servers]

    def failed(self, node: Node | None) -> None:
        """Put *node* last."""
        self.sentinels.sort(key=lambda name: name == node)
        self.servers.sort(key=lambda name: name == node)


class Discovery:
    """Asks until somebody knows."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._rota = Rota.of(access.address)
        self._rota.learn(access.seeds)

    def find(self, deadline: Deadline) -> Found:
        """Return who is who.

        Raises:
            TransientError, PermanentError: when nobody answers; the first reason.
        """
        first: DeliveryError | None = None
        for node in self._candidates(deadline):
            try:
                found = self._ask(node, deadline)
            except PermanentError:
                raise
            except DeliveryError as error:
                first = first or error
                self._rota.failed(node)
            else:
                self._rota.learn(found.topology.nodes)
                return found
        raise first or TransientError(f"no sentinel knows a primary: {self._access.address}")

    def _candidates(self, deadline: Deadline) -> Iterator[Node | None]:
        if not self._rota.sentinels:
            yield from tuple(self._rota.servers)
        for sentinel in tuple(self._rota.sentinels):
            primary = self._primary(sentinel, deadline)
            if primary is None:
                self._rota.failed(sentinel)
            else:
                yield primary

    def _primary(self, sentinel: Node, deadline: Deadline) -> Node | None:
        link = self._link(self._access.sentinel(sentinel), deadline)
        try:
            return primary_of(link.ask(*ASK_PRIMARY, self._access.address.service.encode()))
        except TransientError:
            return None
        finally:
            link.drop()

    def _ask(self, node: Node | None, deadline: Deadline) -> Found:
        link = self._link(self._access.origin(node), deadline)
        try:
            if self._rota.sentinels and not is_primary(link.ask(b"ROLE")):
                raise TransientError(f"Redis at {link.where} is no longer the primary")
            topology = Topology.parse(link.ask(b"CLUSTER", b"SLOTS"), link.host)
        except BaseException:
            link.drop()
            raise
        return Found(node, topology, link)

    def _link(self, origin: Origin, deadline: Deadline) -> Link:
        link = Link(self._access, origin)
        link.begin(deadline)
        return link
