"""Which server has which key: hash slots, sentinels' answers, redirections. Pure.

A server that is no cluster has no slots; then every key is at the address the user gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from redis.crc import key_slot

from streamll_redis._address import Node
from streamll_redis._errors import Refusal

__all__ = ["Redirect", "Topology", "is_primary", "primary_of", "redirect_of"]


@attrs.frozen
class Redirect:
    """Where a server sent us.

    Attributes:
        slot: the hash slot concerned.
        node: who has it.
        asking: only for this request, while the slot is being moved.
    """

    slot: int
    node: Node
    asking: bool


@attrs.define
class Topology:
    """Hash slot -> primary; empty for a server that is no cluster."""

    slots: dict[int, Node] = attrs.field(factory=dict, repr=False)

    @classmethod
    def parse(cls, reply: Any, asked: str) -> Topology:
        """Read the reply to CLUSTER SLOTS, given by the host *asked*, which may not name itself.

        A refusal means: no cluster, or not ours to know; then redirections will tell.
        """
        if isinstance(reply, Refusal):
            return cls()
        slots: dict[int, Node] = {}
        for first, last, primary, *_ in reply:
            node = _node(primary, asked)
            slots.update(dict.fromkeys(range(first, last + 1), node))
        return cls(slots)

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over servers."""
        return bool(self.slots)

    @property
    def nodes(self) -> list[Node]:
        """The primaries."""
        return list(dict.fromkeys(self.slots.values()))

    def node_of(self, key: bytes) -> Node | None:
        """Return who has *key*; None for the address the user gave."""
        return self.slots.get(key_slot(key)) if self.slots else None

    def follow(self, redirect: Redirect) -> None:
        """Learn from a redirection."""
        if not redirect.asking:
            self.slots[redirect.slot] = redirect.node


def redirect_of(reply: Any) -> Redirect | None:
    """Read a MOVED or ASK refusal; None for anything else."""
    if not isinstance(reply, Refusal) or reply.code not in ("MOVED", "ASK"):
        return None
    slot, _, address = reply.detail.partition(" ")
    host, _, port = address.rpartition(":")
    return Redirect(int(slot), Node(host.strip("[]"), int(port)), reply.code == "ASK")


def primary_of(reply: Any) -> Node | None:
    """Read a sentinel's answer to who the primary is; None when it does not know."""
    if not isinstance(reply, Sequence) or len(reply) != 2:  # noqa: PLR2004 - host and port
        return None
    host, port = reply
    return Node(host.decode(), int(port))


def is_primary(reply: Any) -> bool:
    """Read the reply to ROLE; a server that does not tell is taken at its sentinel's word."""
    return isinstance(reply, Refusal) or reply[0] == b"master"


def _node(primary: Sequence[Any], asked: str) -> Node:
    host = primary[0].decode() if primary[0] else ""
    return Node(asked if host in ("", "?") else host, int(primary[1]))
