"""One attempt to append the parts of a batch: by script, or plainly where scripts are refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from streamll_redis._connection import LOST, Link, Reply
from streamll_redis._errors import GAP, Refusal
from streamll_redis._keys import Stream
from streamll_redis._protocol import command
from streamll_redis._writer import Part, Script, plain

__all__ = ["Appender", "Problems"]

_log: Final = logging.getLogger("streamll.redis")

_ASKING: Final = command(b"ASKING")

#: Position in the batch -> `Refusal` or `LOST`, for the events that were not confirmed.
Problems = Mapping[int, Reply]


class Appender:
    """Appends over one link; remembers when the server refuses scripts.

    Attributes:
        link: to the server.
    """

    def __init__(self, link: Link, trim: Sequence[bytes]) -> None:
        self.link = link
        self._trim = trim
        self._script = Script.make(trim)
        self._scripts_refused = False

    def adopt(self, link: Link) -> None:
        """Use *link*, which is connected to the same server, from now on."""
        self.link.drop()
        self.link = link

    def append(self, parts: Sequence[Part], *, asking: bool = False) -> Problems:
        """Append *parts* in order and return what was not confirmed.

        Args:
            parts: in order.
            asking: say that the slot of their key is being moved to this server.
        """
        if self._scripts_refused:
            return self._append_plainly(parts)
        replies = self._call(parts, asking=asking)
        refused = [part for part, reply in replies.items() if _refuses_scripts(reply)]
        problems = _problems({part: replies[part] for part in parts if part not in refused})
        return problems | self._without_scripts(refused)

    def _call(
        self, parts: Sequence[Part], *, asking: bool, in_full: bool = False
    ) -> dict[Part, Reply]:
        """Call the script for each part; once more with its text if the server forgot it."""
        prefix, each = (_ASKING, 2) if asking else (b"", 1)
        requests = (
            prefix + part.call(self._script, in_full=in_full and part is parts[0]) for part in parts
        )
        answers = self.link.exchange(requests, each * len(parts))[each - 1 :: each]
        replies = dict(zip(parts, answers, strict=True))
        forgotten = [part for part, reply in replies.items() if _has_code(reply, "NOSCRIPT")]
        if forgotten and not in_full:
            replies.update(self._call(forgotten, asking=asking, in_full=True))
        return replies

    def _without_scripts(self, parts: Sequence[Part]) -> dict[int, Reply]:
        if not parts:
            return {}
        problems = self._append_plainly(parts)
        if len(problems) < sum(len(part.events) for part in parts):
            self._scripts_refused = True
            _log.warning("Redis refuses scripts: a repeated batch may now be appended twice")
        return problems

    def _append_plainly(self, parts: Sequence[Part]) -> dict[int, Reply]:
        positions = [position for part in parts for position in part.positions]
        requests = (plain(part, self._trim) for part in parts)
        replies = self.link.exchange(requests, len(positions))
        pairs = zip(positions, replies, strict=True)
        return {position: reply for position, reply in pairs if _is_problem(reply)}


def _problems(replies: Mapping[Part, Reply]) -> dict[int, Reply]:
    """Spread replies over events; a part behind a refused one shares its refusal."""
    problems: dict[int, Reply] = {}
    reasons: dict[Stream, Reply] = {}
    confirmed: dict[Stream, int] = {}
    for part, reply in replies.items():
        if not _is_problem(reply):
            confirmed[part.stream] = part.last
            continue
        reason = reasons.get(part.stream, reply) if _has_code(reply, GAP) else reply
        reasons[part.stream] = reason
        problems.update(dict.fromkeys(part.positions, reason))
    for stream, number in confirmed.items():
        stream.ledger.confirm(number)
    return problems


def _is_problem(reply: Reply) -> bool:
    return reply is LOST or isinstance(reply, Refusal)


def _has_code(reply: Reply, code: str) -> bool:
    return isinstance(reply, Refusal) and reply.code == code


def _refuses_scripts(reply: Reply) -> bool:
    return isinstance(reply, Refusal) and reply.refuses_scripts
