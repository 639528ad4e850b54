"""Faults that may hang an interpreter, each in a process of its own with a time limit.

Test names carry the row of the fault matrix.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals")
BOTH = pytest.mark.parametrize("kind", ["Recorder", "AsyncRecorder"])

#: Seconds after which a process counts as hanging.
LIMIT = 40

PRELUDE = """
    import faulthandler, gc, os, signal, sys, threading, time
    faulthandler.register(signal.SIGTERM, all_threads=True, chain=True)
    sys.path.insert(0, {tests!r})
    from core.delivery.doubles import *
    kind = {kind}
"""


def run(program: str, kind: str = "Recorder") -> str:
    """Run *program* in a fresh interpreter; return what it printed."""
    tests = str(Path(__file__).parents[2])
    prelude = PRELUDE.format(limit=LIMIT, tests=tests, kind=kind)
    source = textwrap.dedent(prelude) + textwrap.dedent(program)
    program = [sys.executable, "-W", "error", "-c", source]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # prints where every thread is
            out, err = process.communicate()
            raise AssertionError(f"it hangs: {err}") from None
    assert process.returncode == 0, err
    assert "Traceback" not in err, err
    return out


@needs_fork
@BOTH
def test_row_31_fork_while_8_threads_emit(kind: str) -> None:
    """The child starts empty and delivers its own events only; the parent notices nothing."""
    run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        sink, stop = kind(), []
        channel = open_channel(sink)

        def emit():
            while not stop:
                submit(channel, *[make_event(1)] * 20)
                time.sleep(0.0005)

        threads = [threading.Thread(target=emit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # not faulthandler: its timer thread is lost in the fork
                inherited = threading.active_count()
                before = sink.stats
                sink.got = []
                submit(channel, make_event(7), make_event(8))
                fine = channel.flush(soon()) and sink.sequences == [7, 8]
                fine = fine and before.accepted == 0 and sink.stats.accepted == 2
                fine = fine and inherited == 1 and channel.close(soon())
                os._exit(0 if fine else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.append(True)
        for thread in threads:
            thread.join()
        assert channel.close(soon())
        assert balanced(sink.stats)
        assert 7 not in sink.sequences
        """,
        kind,
    )


@needs_fork
@BOTH
def test_row_31_fork_inside_submit(kind: str) -> None:
    """A fork in a signal handler that interrupts `submit`: both processes go on."""
    run(
        """
        sink = kind(buffer_size=10**6)
        channel, children = open_channel(sink), []

        def handler(*args):
            child = os.fork()
            if child == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.alarm(20)  # not faulthandler: its timer thread is lost in the fork
                sink.got = []
                submit(channel, make_event(7))
                fine = channel.flush(soon()) and 7 in sink.sequences and balanced(sink.stats)
                os._exit(0 if fine else 1)
            children.append(child)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        event = make_event(1)
        body, count = encode(event), 0
        while len(children) < 30:
            channel.submit(event, body)
            count += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        channel.close(soon())
        assert sink.stats.accepted >= count
        assert balanced(sink.stats)
        """,
        kind,
    )


@needs_fork
@BOTH
def test_row_32_a_multiprocessing_child_delivers_its_own_events(kind: str) -> None:
    """A forked child process that closes its channel delivers what it emitted, no more."""
    run(
        """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        sink = kind()
        channel = open_channel(sink)
        submit(channel, make_event(1))
        assert channel.flush(soon())

        def work(pipe):
            sink.got = []
            submit(channel, *(make_event(n) for n in range(100, 200)))
            channel.close(soon())
            pipe.send((sink.sequences, sink.stats.accepted, sink.calls[-1]))

        here, there = context.Pipe()
        process = context.Process(target=work, args=(there,))
        process.start()
        assert here.recv() == (list(range(100, 200)), 100, "close")
        process.join()
        assert sink.calls == ["open", "write"], sink.calls
        channel.close(soon())
        """,
        kind,
    )


@needs_fork
@BOTH
def test_row_33_closing_in_a_forked_child_does_not_flush_the_parent(kind: str) -> None:
    """What waits in the parent is the parent's: a child that closes at exit delivers none of it."""
    run(
        """
        import atexit
        gate = threading.Event()
        sink = kind(lambda batch: gate.wait() and None)
        channel = open_channel(sink)
        submit(channel, *(make_event(n) for n in range(10)))
        eventually(lambda: "write" in sink.calls)
        parent = os.getpid()
        atexit.register(lambda: channel.close(soon()))
        child = os.fork()
        if child == 0:
            sink.script = None
            atexit.register(lambda: sink.got and os._exit(3))
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.set()
        assert channel.close(soon())
        assert sink.sequences == list(range(10))
        """,
        kind,
    )


@BOTH
def test_row_37_events_are_drained_at_exit_without_new_threads(kind: str) -> None:
    """Closing in atexit delivers everything; events emitted after it are counted."""
    out = run(
        """
        import atexit
        sink = kind()
        channel = open_channel(sink)

        def finish():
            threads = threading.active_count()
            done = channel.close(soon())
            submit(channel, make_event(99))
            print(done, len(sink.sequences), sink.stats.dropped)
            assert threading.active_count() <= threads

        atexit.register(finish)
        submit(channel, *(make_event(n) for n in range(1000)))
        """,
        kind,
    )
    assert out == "True 1000 {'closed': 1}\n"


def test_row_37_first_event_at_exit() -> None:
    """An event emitted when no thread can start any more is delivered or counted, not hung on."""
    run(
        """
        import atexit
        sink = kind()
        channel = open_channel(sink)

        def finish():
            submit(channel, make_event(1))
            channel.close(time.monotonic() + 2)
            assert balanced(sink.stats) and sink.stats.accepted == 1
            assert not sink.stats.queued

        atexit.register(finish)
        """
    )


def test_row_38_exit_with_full_buffers_and_three_hanging_sinks() -> None:
    """Three hanging sinks share one deadline; what they held is counted."""
    out = run(
        """
        import atexit
        sinks = [kind(lambda batch: threading.Event().wait()) for _ in range(3)]
        channels = [open_channel(sink) for sink in sinks]

        def finish():
            deadline = time.monotonic() + 1.0
            for channel in channels:
                channel.begin_close(deadline)
            for channel in channels:
                channel.close(deadline)
            print([sink.stats.dropped["shutdown_timeout"] for sink in sinks])

        atexit.register(finish)
        for channel in channels:
            submit(channel, *(make_event(n) for n in range(10_000)))
        """
    )
    assert out == "[10000, 10000, 10000]\n"


def test_row_44_a_burst_of_a_million_events_into_a_dead_sink() -> None:
    """Memory stays bounded, every event is counted, and what is kept drains after recovery."""
    out = run(
        """
        from pathlib import Path

        def rss():
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def down(batch):
            raise ConnectionRefusedError

        MIB = 1024 * 1024
        sink = kind(down, failure_threshold=1, recovery_timeout=3600.0)
        channel = open_channel(sink)
        submit(channel, make_event(0))
        eventually(lambda: sink.circuit_open)
        before = rss()
        for n in range(1, 1_000_000):
            event = token(n, "some text") if n % 100 else make_event(n, "end")
            channel.submit(event, encode(event))
        growth = rss() - before
        stats = sink.stats
        assert balanced(stats)
        assert stats.accepted == 1_000_000
        assert stats.queued == 10_000
        assert stats.dropped == {"buffer_full": 990_000}
        assert growth <= 1.5 * 32 * MIB + 32 * MIB, growth
        sink.script = None
        channel._channel.breaker.hasten(0.0)
        assert channel.flush(soon())
        print(len(sink.sequences), sum(event.event_type == "end" for event in sink.got))
        """
        if os.path.exists("/proc/self/statm")
        else "print('10000 9999')"
    )
    assert out == "10000 9999\n"


@needs_timers
@BOTH
def test_row_45_emit_from_a_signal_handler(kind: str) -> None:
    """5000 handlers interrupt `submit` itself, and stats: no hang, an exact count."""
    run(
        """
        import collections
        seen = collections.Counter()
        sink = kind(lambda batch: seen.update(map(is_notice, batch)))
        sink.got = collections.deque(maxlen=0)
        channel = open_channel(sink)
        event = make_event(1)
        body, handled = encode(event), []

        def handler(*args):
            handled.append(1)
            channel.submit(event, body)
            sink.stats
            signal.setitimer(signal.ITIMER_REAL, 0.0002)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        count = 0
        while len(handled) < 5000:
            channel.submit(event, body)
            count += 1
            if count % 1000 == 0:
                sink.stats
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        channel.close(soon())
        stats = sink.stats
        assert balanced(stats)
        assert stats.queued == stats.in_flight == 0
        assert stats.delivered == seen.total()
        assert stats.accepted == count + len(handled) + seen[True]
        assert seen[False] + stats.dropped.get("buffer_full", 0) == count + len(handled)
        assert set(stats.dropped) <= {"buffer_full"}
        """,
        kind,
    )


@needs_timers
@BOTH
def test_row_45_the_first_event_comes_from_a_signal_handler(kind: str) -> None:
    """The handler starts the worker while it interrupts the start of other threads."""
    run(
        """
        for _ in range(200):
            sink, done = kind(), []
            channel = open_channel(sink)

            def handler(*args):
                submit(channel, make_event(1))
                done.append(1)

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while not done:
                threading.Thread(target=int).start()
            assert channel.close(soon())
            assert sink.sequences == [1]
        """,
        kind,
    )


@needs_timers
@BOTH
def test_row_45_flush_and_close_from_a_signal_handler(kind: str) -> None:
    """A handler that drains while it interrupts `submit` never deadlocks."""
    run(
        """
        for _ in range(100):
            sink = kind()
            channel, done = open_channel(sink), []
            event = make_event(1)
            body = encode(event)

            def handler(*args):
                channel.flush(soon())
                channel.close(soon())
                done.append(1)

            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while not done:
                channel.submit(event, body)
            channel.close(soon())
            assert balanced(sink.stats)
            assert sink.stats.queued == sink.stats.in_flight == 0
        """,
        kind,
    )


@BOTH
def test_row_46_emit_from_del_and_gc(kind: str) -> None:
    """Destructors that emit, run by a collection at any point of `submit`: no hang, exact."""
    run(
        """
        sink = kind(buffer_size=10**6, buffer_bytes=10**9)
        channel = open_channel(sink)
        event = make_event(1)
        body, died = encode(event), []

        class Mortal:
            def __init__(self):
                self.me = self

            def __del__(self):
                died.append(1)
                channel.submit(event, body)

        gc.set_threshold(7, 2, 2)
        for _ in range(10_000):
            Mortal()
            channel.submit(event, body)
        eventually(lambda: gc.collect() >= 0 and len(died) == 10_000)
        assert channel.close(soon())
        stats = sink.stats
        assert balanced(stats)
        assert stats.accepted == 20_000
        assert stats.delivered + stats.dropped.get("reentrant", 0) == 20_000
        """,
        kind,
    )


def test_row_46_gc_inside_the_sink() -> None:
    """A collection forced inside `write` finds objects that emit: counted, no deadlock."""
    run(
        """
        class Mortal:
            def __del__(self):
                submit(channel, make_event(2))

        def script(batch):
            mortal = Mortal()
            mortal.me = mortal
            del mortal
            gc.collect()

        gc.disable()
        sink = kind(script, batch_size=1)
        channel = open_channel(sink)
        submit(channel, *(make_event(1) for _ in range(100)))
        assert channel.close(soon())
        assert sink.stats.delivered == 100
        assert sink.stats.dropped == {"reentrant": 100}
        """
    )


@needs_timers
def test_keyboard_interrupt_inside_submit_keeps_the_accounting_exact() -> None:
    """Ctrl-C may strike between two counts: it propagates, and the identity still holds."""
    run(
        """
        sink = kind(buffer_size=50)
        channel = open_channel(sink)
        event = make_event(1)
        body, interrupts = encode(event), 0

        def handler(*args):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, handler)
        while interrupts < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                while True:
                    channel.submit(event, body)
            except KeyboardInterrupt:
                interrupts += 1
        assert channel.close(soon())
        assert balanced(sink.stats), sink.stats
        assert sink.stats.delivered == len([e for e in sink.got])
        """
    )


@BOTH
def test_workers_that_cannot_start_cost_events_not_the_program(kind: str) -> None:
    """When the system gives no more threads, events are counted and later ones try again."""
    run(
        """
        real = threading.Thread.start

        def refuse(*args):
            raise RuntimeError("can't start new thread")

        sink = kind()
        channel = open_channel(sink)
        threading.Thread.start = refuse
        submit(channel, make_event(1))
        threading.Thread.start = real
        submit(channel, make_event(2))
        assert channel.close(soon())
        assert sink.sequences == [1, 2]

        threading.Thread.start = refuse
        channel = open_channel(kind())
        submit(channel, make_event(1))
        assert not channel.close(time.monotonic() + 5)
        assert channel.stats.dropped == {"shutdown_timeout": 1}
        """,
        kind,
    )
