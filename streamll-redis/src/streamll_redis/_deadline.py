"""One time limit for a whole operation, whatever it is made of.

A socket timeout counts from one `recv` to the next, so a server that sends a byte now and
then holds a client for ever, and name resolution has no timeout at all. Here every socket
call gets what is left of the operation's time, and connecting runs beside the caller.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deadline", "DeadlineSocket", "run_within"]

T = TypeVar("T")


@attrs.frozen
class Deadline:
    """When an operation must be over, on the monotonic clock."""

    end: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Begin an operation that may take *seconds*."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: when none are.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the operation's time is over")
        return left


class DeadlineSocket:
    """A connected socket whose calls share one deadline; everything else is the socket's own.

    Attributes:
        deadline: of the running operation; replaced when the next one begins.
    """

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self.deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: bytearray) -> int:
        """Read what has arrived, waiting as long as the deadline allows."""
        self._sock.settimeout(self.deadline.remaining())
        count: int = self._sock.recv_into(buffer)
        return count

    def sendall(self, data: bytes) -> None:
        """Send all of *data* before the deadline."""
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self.deadline.remaining())
            rest = rest[self._sock.send(rest) :]


def run_within(deadline: Deadline, call: Callable[[], T]) -> T:
    """Return ``call()``, waiting no longer than *deadline* allows.

    For calls that cannot be interrupted, such as name resolution. One that is late goes on
    in a daemon thread; its result is ignored.

    Raises:
        TimeoutError: when the time is over; else whatever *call* raises.
    """
    future: Future[T] = Future()
    thread = Thread(target=_settle, args=(future, call), name="streamll-redis-connect", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is exiting and starts no more threads
        return call()
    return future.result(deadline.remaining())


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
        future.set_exception(error)
