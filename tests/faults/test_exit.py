"""Rows 32-39 of the fault matrix: how a process leaves. Each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

#: Seconds after which a process counts as hanging.
LIMIT = 60

PRELUDE = """
    import atexit, multiprocessing, os, signal, sys, threading, time
    import streamll

    class File(streamll.Sink):
        '''Appends a line per event; stays open, as a socket would.'''

        def __init__(self, path, pause=0.0, **delivery):
            super().__init__(**delivery)
            self.path, self.pause = path, pause

        def write(self, batch):
            time.sleep(self.pause)
            with open(self.path, "a") as out:
                out.writelines(f"{os.getpid()} {event.event_type}\\n" for event in batch)

    class Frozen(streamll.Sink):
        '''Never returns.'''

        def write(self, batch):
            threading.Event().wait()

    path = sys.argv[1]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
"""


def start(program, path):
    """Start *program* in a new interpreter."""
    source = textwrap.dedent(PRELUDE) + textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", source, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program, path):
    """Run *program* to its end and return (exit code, what was delivered, stderr)."""
    process = start(program, path)
    _, stderr = process.communicate(timeout=LIMIT)
    return process.returncode, delivered(path), stderr


def delivered(path):
    """The lines of the file sink."""
    return path.read_text().splitlines() if path.exists() else []


LEAVING = {
    "end": "",
    "sys_exit": "sys.exit(3)",
    "exception": "raise RuntimeError('bye')",
    "sigint": "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
}


@pytest.mark.parametrize("way", LEAVING)
def test_row_37_leaving_in_any_orderly_way_delivers_what_is_held(way, tmp_path):
    """A healthy sink loses nothing when the program ends, exits, raises or is interrupted."""
    code, lines, stderr = run(
        f"""
        streamll.configure(sinks=[File(path, pause=0.01, batch_size=10)])
        for n in range(200):
            streamll.emit("event")
        {LEAVING[way]}
        """,
        tmp_path / "out",
    )
    assert len(lines) == 200
    assert "streamll" not in stderr.replace("streamll.emit", "")
    assert (code == 0) == (way == "end")


def test_row_38_three_frozen_sinks_share_one_deadline_at_exit(tmp_path):
    """The exit takes one shutdown timeout, not three, and counts what is left behind."""
    path = tmp_path / "out"
    process = start(
        """
        sinks = [Frozen(), Frozen(), Frozen()]
        streamll.configure(sinks=sinks)
        for n in range(1000):
            streamll.emit("event")
        def told():
            for sink in sinks:
                print(sink.stats.dropped.get("shutdown_timeout"), sink.stats.queued)
        begin = time.monotonic()
        done = streamll.shutdown(1.0)
        print(done, time.monotonic() - begin)
        told()
        """,
        path,
    )
    stdout, stderr = process.communicate(timeout=LIMIT)
    first, *rest = stdout.splitlines()
    done, seconds = first.split()
    assert done == "False"
    assert float(seconds) < 3 * 1.0, stderr
    assert rest == ["1000 0"] * 3


def test_row_39_exit_prints_no_traceback_whatever_the_sink_does(tmp_path):
    """A sink that needs a thread or raises during interpreter exit is not noisy."""
    _, _, stderr = run(
        """
        class Late(streamll.Sink):
            def write(self, batch):
                raise ConnectionError("down")
        streamll.configure(sinks=[Late()])
        streamll.emit("event")
        atexit.register(lambda: streamll.emit("after"))
        """,
        tmp_path / "out",
    )
    assert "Traceback" not in stderr


def test_row_36_sigterm_without_our_help_dies_as_python_does(tmp_path):
    """No handler is installed unasked."""
    code, _, _ = run(
        """
        streamll.configure(sinks=[File(path)])
        streamll.emit("event")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        """,
        tmp_path / "out",
    )
    assert code == -signal.SIGTERM


def test_row_36_the_opt_in_helper_drains_on_sigterm_and_dies_of_it(tmp_path):
    """Nothing is lost, and the exit status is still that of SIGTERM."""
    code, lines, _ = run(
        """
        streamll.drain_on_sigterm()
        streamll.configure(sinks=[File(path, pause=0.01, batch_size=10)])
        for n in range(200):
            streamll.emit("event")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        """,
        tmp_path / "out",
    )
    assert len(lines) == 200
    assert code == -signal.SIGTERM


def test_row_36_sigterm_in_the_middle_of_a_shutdown_loses_nothing(tmp_path):
    """The helper joins the shutdown that runs, and a second signal does no harm."""
    code, lines, stderr = run(
        """
        streamll.drain_on_sigterm()
        streamll.configure(sinks=[File(path, pause=0.01, batch_size=10)])
        for n in range(200):
            streamll.emit("event")

        def kill():
            for _ in range(2):
                time.sleep(0.03)
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=kill).start()
        streamll.shutdown(10)
        time.sleep(10)
        """,
        tmp_path / "out",
    )
    assert len(lines) == 200
    assert code == -signal.SIGTERM
    assert not stderr


@pytest.mark.parametrize("busy", ["sink.stats", 'streamll.emit("more")', "streamll.flush(9)"])
def test_row_36_sigterm_in_the_middle_of_our_accounting_loses_nothing(busy, tmp_path):
    """The helper lets the frame it interrupted go on, and comes back."""
    code, lines, _ = run(
        f"""
        streamll.drain_on_sigterm()
        sink = File(path, pause=0.002, batch_size=20)
        streamll.configure(sinks=[sink])
        for n in range(1000):
            streamll.emit("event")
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while True:
            {busy}
        """,
        tmp_path / "out",
    )
    assert sum(" event" in line for line in lines) == 1000
    assert code == -signal.SIGTERM


def test_row_36_where_sigterm_was_ignored_it_still_is(tmp_path):
    """What is held is delivered, and streamll goes on with the program."""
    code, lines, _ = run(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        streamll.drain_on_sigterm()
        streamll.configure(sinks=[File(path)])
        os.kill(os.getpid(), signal.SIGTERM)
        streamll.emit("event")
        """,
        tmp_path / "out",
    )
    assert len(lines) == 1
    assert code == 0


def test_row_35_a_killed_process_loses_at_most_what_it_held(tmp_path):
    """What was delivered before SIGKILL stays delivered, in order, without repeats."""
    path = tmp_path / "out"
    process = start(
        """
        streamll.configure(sinks=[File(path)])
        n = 0
        while True:
            streamll.emit(f"event{n}")
            n += 1
            time.sleep(0.001)
        """,
        path,
    )
    end = time.monotonic() + LIMIT
    while len(delivered(path)) < 50 and time.monotonic() < end:
        os.sched_yield()
    process.kill()
    process.communicate()
    names = [line.split()[1] for line in delivered(path) if " event" in line]
    assert names[:50] == [f"event{n}" for n in range(50)]
    assert names == [f"event{n}" for n in range(len(names))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_row_32_a_multiprocessing_child_delivers_its_own_events(tmp_path):
    """atexit does not run in such a child; its events arrive all the same, the parent's once."""
    code, lines, stderr = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        def child():
            for n in range(50):
                streamll.emit("child")
        streamll.configure(sinks=[File(path)])
        streamll.emit("parent")
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(20)
        print(process.exitcode)
        """,
        tmp_path / "out",
    )
    assert code == 0, stderr
    kinds = [line.split()[1] for line in lines]
    assert kinds.count("child") == 50
    assert kinds.count("parent") == 1
    assert len({line.split()[0] for line in lines}) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_row_33_a_forked_child_that_exits_does_not_flush_the_parents_events(tmp_path):
    """What waited in the parent at the fork is delivered by the parent only."""
    code, lines, stderr = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        streamll.configure(sinks=[File(path, pause=0.05, batch_size=1)])
        for n in range(20):
            streamll.emit("parent")
        pid = os.fork()
        if pid == 0:
            streamll.emit("child")
            sys.exit(0)
        os.waitpid(pid, 0)
        """,
        tmp_path / "out",
    )
    assert code == 0, stderr
    kinds = [line.split()[1] for line in lines]
    assert (kinds.count("parent"), kinds.count("child")) == (20, 1)
