"""The invariants of reliability.md B1, as checks that any fault test may use."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamll

#: What the machine may add to one emit: scheduling, a garbage collection.
HICCUP = 0.05
MIB = 1024 * 1024


def i1_accounting(stats: Any) -> None:
    """I1: accepted = delivered + dropped + queued + in flight, exactly."""
    settled = stats.delivered + sum(stats.dropped.values())
    assert stats.accepted == settled + stats.queued + stats.in_flight, stats


def emit_times(
    count: int, emit: Callable[[int], Any] = lambda n: streamll.emit("x", n=n)
) -> list[float]:
    """Seconds that each of *count* emits took; raises what emit raises (I3: nothing)."""
    times = []
    for n in range(count):
        begin = time.perf_counter()
        emit(n)
        times.append(time.perf_counter() - begin)
    return times


def i2_never_blocks(healthy: list[float], faulty: list[float]) -> None:
    """I2: the 99th percentile under a fault is at most twice the healthy one, or a hiccup."""
    p99 = [statistics.quantiles(times, n=100)[98] for times in (healthy, faulty)]
    assert p99[1] <= max(2 * p99[0], HICCUP), p99


def rss() -> int:
    """Resident bytes of this process."""
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def i4_memory(limit: int) -> Iterator[None]:
    """I4: memory grows by at most 1.5 times the byte limit + 32 MiB."""
    before = rss()
    yield
    assert rss() - before <= 1.5 * limit + 32 * MIB


@contextmanager
def i5_closes_within(seconds: float) -> Iterator[None]:
    """I5: close(T) returns by T + 0.5 s; twice that for a machine that is busy."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin <= seconds + 1.0


def i6_isolated(healthy: Any, expected: int) -> None:
    """I6: a healthy second sink loses nothing."""
    assert healthy.stats.delivered == expected
    assert not healthy.stats.dropped


def i7_truth(truth: Any, retried_unknown: int) -> None:
    """I7: nothing acknowledged is lost, nothing invented, duplicates only of the unknown."""
    assert not truth.acked_lost
    assert not truth.unexpected
    assert len(truth.duplicates) <= retried_unknown


@contextmanager
def i8_leaves_nothing() -> Iterator[None]:
    """I8: threads and file descriptors are as many after as before."""

    def count() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = count()
    yield
    end = time.monotonic() + 10
    while count() != before and time.monotonic() < end:
        time.sleep(0.01)  # a thread that was joined may still be leaving
    assert count() == before
