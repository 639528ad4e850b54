"""Appends over the servers behind one address, each part where its key is.

Who is who is asked anew after anything went wrong: a failover changes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from streamll import TransientError
from streamll_redis._access import Access
from streamll_redis._address import Node
from streamll_redis._append import Appender, Problems
from streamll_redis._connection import LOST, Link, Reply
from streamll_redis._deadline import Deadline
from streamll_redis._discovery import Discovery
from streamll_redis._errors import UNREACHABLE, Refusal
from streamll_redis._slots import Redirect, Topology, redirect_of

if TYPE_CHECKING:
    from streamll_redis._writer import Part

__all__ = ["Servers"]

#: Redirections to follow in one attempt; one is usual.
_REDIRECTIONS: Final = 3

#: Who gets parts, and whether the slot of their key is being moved there.
_Place = tuple[Node | None, bool]


class Servers:
    """All connections of one sink. Used by one thread at a time."""

    def __init__(self, access: Access, trim: Sequence[bytes]) -> None:
        self._access = access
        self._trim = trim
        self._deadline = Deadline.after(access.op_timeout)
        self._discovery = Discovery(access)
        self._topology = Topology()
        self._home: Node | None = None
        self._is_known = False
        self._appenders: dict[Node | None, Appender] = {}
        self._suspects: set[Node | None] = set()

    @property
    def failure(self) -> Exception | None:
        """What broke a connection in the running operation; None if nothing did."""
        failures = (appender.link.failure for appender in self._appenders.values())
        return next((failure for failure in failures if failure is not None), None)

    def begin(self) -> None:
        """Start an operation: everything until the next `begin` shares one time limit."""
        self._deadline = Deadline.after(self._access.op_timeout)
        for appender in self._appenders.values():
            appender.link.begin(self._deadline)

    def connect(self) -> None:
        """Find out who is who, unless that is known, and connect.

        Raises:
            TransientError, PermanentError: when no server answers.
        """
        if not self._is_known:
            self._discover()
        elif not self._topology.is_cluster:
            self._is_known = False  # should it fail
            self._appender(self._home).link.connect()
            self._is_known = True

    def append(self, parts: Sequence[Part]) -> Problems:
        """Append *parts*, in order per stream, and return what was not confirmed.

        Raises:
            PermanentError: when a server of the cluster does not let us in.
        """
        problems = self._append_at(self._places(parts))
        for _ in range(_REDIRECTIONS):
            redirects = _redirects(parts, problems)
            if not redirects:
                break
            problems = _without(problems, redirects) | self._append_at(self._follow(redirects))
        self._is_known = not any(map(_is_doubtful, problems.values()))
        return problems

    def drop(self) -> None:
        """Close all connections and forget who is who."""
        for appender in self._appenders.values():
            appender.link.drop()
        self._is_known = False

    def _discover(self) -> None:
        found = self._discovery.find(self._deadline)
        self._home, self._topology, self._is_known = found.home, found.topology, True
        if found.topology.is_cluster:
            found.link.drop()
        else:
            self._appender(found.home).adopt(found.link)

    def _appender(self, node: Node | None) -> Appender:
        if node not in self._appenders:
            link = Link(self._access, self._access.origin(node))
            link.begin(self._deadline)
            self._appenders[node] = Appender(link, self._trim)
        return self._appenders[node]

    def _places(self, parts: Iterable[Part]) -> Mapping[_Place, list[Part]]:
        places: defaultdict[_Place, list[Part]] = defaultdict(list)
        for part in parts:
            places[self._topology.node_of(part.stream.key) or self._home, False].append(part)
        return places

    def _follow(self, redirects: Mapping[Part, Redirect]) -> Mapping[_Place, list[Part]]:
        places: defaultdict[_Place, list[Part]] = defaultdict(list)
        for part, redirect in redirects.items():
            self._topology.follow(redirect)
            places[redirect.node, redirect.asking].append(part)
        return places

    def _append_at(self, places: Mapping[_Place, Sequence[Part]]) -> dict[int, Reply]:
        """Append at one server after the other; who failed last may use up the time, so last."""
        problems: dict[int, Reply] = {}
        for node, asking in sorted(places, key=lambda place: place[0] in self._suspects):
            problems.update(self._append_to(node, places[node, asking], asking=asking))
        return problems

    def _append_to(self, node: Node | None, parts: Sequence[Part], *, asking: bool) -> Problems:
        appender = self._appender(node)
        problems: Problems
        try:
            appender.link.connect()
        except TransientError as error:
            appender.link.failure = error
            problems = {at: UNREACHABLE for part in parts for at in part.positions}
        else:
            problems = appender.append(parts, asking=asking)
        self._judge(node, problems)
        return problems

    def _judge(self, node: Node | None, problems: Problems) -> None:
        failed = any(reply in (LOST, UNREACHABLE) for reply in problems.values())
        (self._suspects.add if failed else self._suspects.discard)(node)


def _redirects(parts: Iterable[Part], problems: Problems) -> dict[Part, Redirect]:
    """Return the parts that were sent elsewhere as a whole."""
    found: dict[Part, Redirect] = {}
    for part in parts if problems else ():
        redirects = [redirect_of(problems.get(at)) for at in part.positions]
        if redirects[0] is not None and None not in redirects:
            found[part] = redirects[0]
    return found


def _without(problems: Problems, parts: Iterable[Part]) -> dict[int, Reply]:
    repeated = {at for part in parts for at in part.positions}
    return {at: reply for at, reply in problems.items() if at not in repeated}


def _is_doubtful(reply: Reply) -> bool:
    """Whether who is who may have changed: all but a refusal that concerns one key."""
    return not (isinstance(reply, Refusal) and reply.is_about_key)
