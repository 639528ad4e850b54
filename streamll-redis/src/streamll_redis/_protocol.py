"""Commands -> bytes of the Redis protocol. Pure.

Packed by hand because it is the hot path of the sink: redis-py packs an argument at a time.
"""

from __future__ import annotations

__all__ = ["bulk", "command"]


def command(*arguments: bytes) -> bytes:
    """Pack one command."""
    return b"".join([b"*%d\r\n" % len(arguments), *map(bulk, arguments)])


def bulk(value: bytes) -> bytes:
    """Pack one argument."""
    return b"$%d\r\n%b\r\n" % (len(value), value)
