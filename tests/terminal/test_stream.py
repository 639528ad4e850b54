"""Where lines go: terminals, pipes, files, and streams that are gone."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from streamll import OutcomeUnknown, PermanentError, TransientError
from streamll_terminal import TerminalSink, _stream
from terminal.building import make_batch, token

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = make_batch(token("hello"), token("wörld ▶"))
VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TERM")


class Terminal(io.StringIO):
    """A stream that says it is a TTY."""

    def isatty(self) -> bool:
        return True


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run *script* in an interpreter of its own; `sink` and `BATCH` are there."""
    setup = "from streamll_terminal import TerminalSink; sink = TerminalSink()\n"
    setup += "from terminal.building import *; BATCH = make_batch(token('hello'))\n"
    path = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(script)],
        env={**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": path, **options.pop("env", {})},
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: the descriptor to read, the text stream to write."""
    reader, writer = os.pipe()
    stream = open(writer, "w", encoding="utf-8")  # noqa: SIM115
    yield reader, stream
    for close in (lambda: os.close(reader), stream.close):
        with contextlib.suppress(OSError):
            close()


@pytest.mark.parametrize(
    ("tty", "variables", "color", "expected"),
    [
        (True, {}, None, True),
        (False, {}, None, False),
        (True, {"NO_COLOR": "1"}, None, False),
        (True, {"NO_COLOR": ""}, None, True),
        (False, {"FORCE_COLOR": "1"}, None, True),
        (False, {"FORCE_COLOR": ""}, None, False),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, None, False),
        (True, {"TERM": "dumb"}, None, False),
        (True, {"TERM": "dumb", "FORCE_COLOR": "1"}, None, True),
        (False, {}, True, True),
        (True, {"NO_COLOR": "1"}, True, True),
        (True, {}, False, False),
    ],
)
def test_color_matrix(
    monkeypatch: pytest.MonkeyPatch,
    tty: bool,
    variables: dict[str, str],
    color: bool | None,
    expected: bool,
) -> None:
    """The option decides, then NO_COLOR, FORCE_COLOR, TERM, and whether it is a TTY."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if tty else io.StringIO()
    TerminalSink(file=stream, color=color).write(BATCH)
    assert ("\x1b[" in stream.getvalue()) is expected


@pytest.mark.parametrize(("no_color", "expected"), [("", True), ("1", False)])
def test_real_terminal(no_color: str, expected: bool) -> None:
    """On a pseudo-terminal lines are coloured, unless NO_COLOR is set."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    env = {"NO_COLOR": no_color, "FORCE_COLOR": "", "TERM": "xterm"}
    done = run("sink.write(BATCH)", stdout=slave, env=env)
    os.close(slave)
    text = os.read(master, 10_000).decode()
    os.close(master)
    assert done.returncode == 0
    assert ("\x1b[32m• llm_call\x1b[0m" in text) is expected
    assert text.endswith("'hello'\r\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_narrow_encodings(encoding: str) -> None:
    """Where the symbols do not exist ASCII ones are used, and data is escaped, never lost."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    TerminalSink(file=stream).write(BATCH)
    first, second = raw.getvalue().decode(encoding).splitlines()
    assert first.endswith("* llm_call (a1b2c3d4) 'hello'")
    assert second.endswith(r"w\xf6rld \u25b6'" if encoding == "ascii" else r"wörld \u25b6'")


def test_forced_symbols_on_ascii() -> None:
    """Symbols asked for on a stream that cannot write them do not raise."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    TerminalSink(file=stream, ascii=False).write(BATCH)
    assert rb"\u2022 llm_call" in raw.getvalue()


def test_ascii_standard_output() -> None:
    """The same holds for the real standard output."""
    done = run("sink.write(BATCH)", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.endswith("* llm_call (a1b2c3d4) 'hello'\n")


def test_stdout_is_looked_up_when_writing(capsys: pytest.CaptureFixture[str]) -> None:
    """Redirections and notebooks replace `sys.stdout`; lines follow it."""
    sink = TerminalSink()
    sink.write(BATCH)
    assert "'hello'" in capsys.readouterr().out
    TerminalSink(url="terminal://stderr").write(BATCH)
    assert "'hello'" in capsys.readouterr().err


def test_one_write_per_batch() -> None:
    """A batch reaches the stream in one call, of whole lines."""

    class Counting(io.StringIO):
        calls = 0

        def write(self, text: str) -> int:
            self.calls += 1
            return super().write(text)

    stream = Counting()
    TerminalSink(file=stream).write(make_batch(*[token("x")] * 100))
    assert stream.calls == 1
    assert stream.getvalue().count("\n") == 100


def test_order_with_print() -> None:
    """What the program printed before an event stands before it, in a pipe too."""
    done = run("print('before'); sink.write(BATCH); print('after')", stdout=subprocess.PIPE)
    before, event, after = done.stdout.splitlines()
    assert (before, after) == ("before", "after")
    assert "llm_call" in event


@pytest.mark.parametrize("flags", ["", "1"], ids=["buffered", "unbuffered"])
def test_broken_pipe_is_permanent_and_silent(flags: str) -> None:
    """A reader that left costs the program neither a message nor its exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    script = """
        from streamll import PermanentError
        for _ in range(3):
            try:
                sink.write(BATCH)
            except PermanentError:
                continue
            raise SystemExit(9)
    """
    done = run(script, stdout=writer, stderr=subprocess.PIPE, env={"PYTHONUNBUFFERED": flags})
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stuck_reader_cannot_hold_up_exit() -> None:
    """The program ends while a daemon thread waits in `write` for a reader that never reads."""
    script = """
        import select, sys, threading
        big = make_batch(*[token("x" * 900)] * 1000)
        threading.Thread(target=sink.write, args=(big,), daemon=True).start()
        while select.select([], [sys.stdout], [], 0)[1]:
            pass
    """
    reader, writer = os.pipe()
    done = run(script, stdout=writer, stderr=subprocess.PIPE)
    os.close(reader)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_file_is_permanent() -> None:
    """A closed stream raises PermanentError."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(PermanentError, match="closed"):
        TerminalSink(file=stream, color=False, ascii=False).write(BATCH)
    with pytest.raises(PermanentError, match="closed"):
        TerminalSink(file=stream).write(BATCH)


def test_closed_descriptor_is_permanent() -> None:
    """So does a standard output whose descriptor was closed below it."""
    done = run(
        """
        import os, sys
        from streamll import PermanentError
        os.close(1)
        try:
            sink.write(BATCH)
        except PermanentError:
            sys.stderr.write("permanent")
        """,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.stderr == "permanent"


def test_read_only_file_is_permanent(tmp_path: Any) -> None:
    """A stream that is not open for writing raises PermanentError."""
    path = tmp_path / "read-only"
    path.touch()
    with path.open() as stream, pytest.raises(PermanentError, match="not writable"):
        TerminalSink(file=stream).write(BATCH)


def test_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a console there is nothing to write to."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(PermanentError, match="no standard output"):
        TerminalSink().write(BATCH)


def test_full_disk_is_unknown() -> None:
    """Other I/O errors may have written a part."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutcomeUnknown, match="OSError"):
        TerminalSink(file=Full()).write(BATCH)


def test_a_retry_does_not_repeat_what_the_stream_has_taken() -> None:
    """What a stream holds in its own buffer is flushed again, not written again."""

    class Full(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

    stream = Full()
    sink = TerminalSink(file=stream, ascii=True, color=False)
    batch = make_batch(token("one"), token("two").replace(event_id="2"))
    with pytest.raises(OutcomeUnknown):
        sink.write(batch)
    stream.full = False
    sink.write(batch)
    sink.write(make_batch(token("three").replace(event_id="3")))
    words = [line.split()[-1] for line in stream.getvalue().splitlines()]
    assert [word.strip("'\"") for word in words] == ["one", "two", "three"]


def test_a_retry_goes_on_behind_the_last_whole_line(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that was full for a while gets every line once, and at most a part of one twice."""
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    monkeypatch.setattr(sys, "__stdout__", stream)
    monkeypatch.setattr(_stream, "_PATIENCE", 0.0)
    sink = TerminalSink(file=stream, ascii=True, color=False)
    big = make_batch(*(token(f"{'x' * 900}-{n}.").replace(event_id=str(n)) for n in range(300)))
    out = b""
    for _ in range(100):
        try:
            sink.write(big)
            break
        except (OutcomeUnknown, TransientError):
            out += os.read(reader, 1_000_000)
    monkeypatch.undo()
    os.set_blocking(reader, False)
    out += os.read(reader, 1_000_000)
    assert [int(n) for n in re.findall(rb"x-(\d+)\.", out)] == list(range(300))


def test_messages_hold_no_payload() -> None:
    """An error says what failed, never what was to be written."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(PermanentError) as caught:
        TerminalSink(file=stream).write(make_batch(token("canary")))
    assert "canary" not in str(caught.value)


def test_full_non_blocking_pipe(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """No room: unknown while a part went out, transient once nothing did."""
    _, stream = pipe
    os.set_blocking(stream.fileno(), False)
    monkeypatch.setattr(sys, "__stdout__", stream)
    monkeypatch.setattr(_stream, "_PATIENCE", 0.0)
    big = make_batch(*(token("x" * 900).replace(event_id=str(n)) for n in range(1000)))
    sink = TerminalSink(file=stream)
    with pytest.raises(OutcomeUnknown):
        sink.write(big)
    with pytest.raises(TransientError):
        sink.write(big)
    monkeypatch.undo()


def test_slow_reader_of_non_blocking_pipe(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that keeps reading gets every line whole, although writes are partial."""
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    monkeypatch.setattr(sys, "__stdout__", stream)
    parts: list[bytes] = []
    reading = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(reader, 777), b"")))
    reading.start()
    TerminalSink(file=stream).write(make_batch(*[token(f"{n:0900}") for n in range(1000)]))
    stream.close()
    reading.join(timeout=30)
    lines = b"".join(parts).decode().splitlines()
    assert [int(text[-901:-1]) for text in lines] == list(range(1000))
    monkeypatch.undo()
