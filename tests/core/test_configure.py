"""`configure` is strict, atomic, and effective at once."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import signal
import sys
import threading
import time
import weakref

import pytest

import streamll
from streamll import _plugins
from streamll.testing import MemorySink
from streamll_rabbitmq import RabbitMQSink
from streamll_redis import RedisSink
from support.plugins import plugin_module


def names(sink):
    """The custom event names a sink has got."""
    streamll.flush()
    return [event.event_type for event in sink.events]


def test_events_reach_every_sink_from_any_thread_at_once():
    """After configure returns, any thread's events arrive."""
    one, two = MemorySink(), MemorySink()
    streamll.configure(sinks=[one, two])
    thread = threading.Thread(target=lambda: streamll.emit("hello", {"n": 1}))
    thread.start()
    thread.join()
    assert names(one) == names(two) == ["hello"]


def test_reconfiguring_delivers_what_the_old_sink_holds_and_then_leaves_it():
    """Old sinks are flushed and closed; new events go to the new sinks."""
    old, new = MemorySink(), MemorySink()
    streamll.configure(sinks=[old])
    for _ in range(100):
        streamll.emit("before")
    streamll.configure(sinks=[new])
    streamll.emit("after")
    assert names(new) == ["after"]
    assert len(old.events) == 100
    assert not old.is_running


def test_as_a_context_manager_it_restores_what_was_there():
    """Inside the block the inner sinks, after it the outer ones again."""
    outer, inner = MemorySink(), MemorySink()
    streamll.configure(sinks=[outer])
    with streamll.configure(sinks=[inner]):
        streamll.emit("inside")
    streamll.emit("outside")
    assert names(outer) == ["outside"]
    assert [event.event_type for event in inner.events] == ["inside"]
    assert streamll.get_sinks() == [outer]


def test_a_failing_configure_changes_nothing():
    """An error leaves the configuration in force."""
    sink = MemorySink()
    streamll.configure(sinks=[sink])
    with pytest.raises(streamll.ConfigurationError):
        streamll.configure(sinks=["no_such_sink"])
    streamll.emit("still")
    assert names(sink) == ["still"]


def test_a_sink_in_both_configurations_is_not_interrupted():
    """What stays configured keeps its channel and its accounting."""
    sink = MemorySink()
    streamll.configure(sinks=[sink])
    streamll.emit("one")
    streamll.configure(sinks=[sink, MemorySink()])
    streamll.emit("two")
    assert names(sink) == ["one", "two"]
    assert sink.stats.accepted == sink.stats.delivered == 2


BAD = [
    (dict(sinks=["terminl"]), "unknown sink name 'terminl'; did you mean 'terminal'"),
    (dict(sinks=["kafka://h"]), "unknown URL scheme 'kafka://'"),
    (dict(sinks=[object()]), "object is not a sink: pass a streamll.Sink"),
    (dict(sinks=MemorySink()), r"sinks must be a list, e.g. sinks=\[TerminalSink\(\)\]"),
    (dict(sinks=[MemorySink]), r"MemorySink is a class; write MemorySink\(\)"),
    (dict(sink=[]), r"unknown option of configure\(\) 'sink'; did you mean 'sinks'"),
    (dict(sinks=[], capture=True), "unknown capture True; known: all, instrumented"),
    (dict(sinks=[], stream_fields=3), "stream_fields and operations are lists of names, not 3"),
    (dict(sinks=[], operations=[1]), "stream_fields and operations are lists of names"),
    (dict(sinks=[], capture="al"), "unknown capture 'al'; did you mean 'all'"),
    (dict(sinks=[], level="inf"), "unknown level 'inf'; did you mean 'info'"),
    (
        dict(sinks=[], operations=["lm_call"]),
        "unknown operation 'lm_call'; did you mean 'llm_call'",
    ),
    (dict(sinks=[], processors=[1]), "a processor must be callable, not int"),
    (dict(sinks=[], include_inputs="no"), "include_inputs must be True or False, not 'no'"),
    (dict(sinks=[], max_string=0), "max_string must be a whole number above 0"),
    (dict(sinks=[], max_event_bytes=True), "max_event_bytes must be a whole number above 0"),
    (dict(sinks=[], token_window_ms=float("nan")), "token_window_ms must be a number of at least"),
    (dict(sinks=[], tags="beta"), r"tags must be a list of strings, e.g. tags=\['beta'\], not 'b"),
    (dict(sinks=[], tags=None), "tags must be a list of strings"),
    (dict(sinks=[], service=5), "service must be a string, not 5"),
    (dict(sinks=[], processors=5), "processors must be a list of functions, not 5"),
    (dict(sinks=["terminal://?colour=1"]), "unknown option"),
    (
        dict(sinks=["redis://localhost?buffer_size=many"]),
        "buffer_size='many' in the URL is not a int",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_refused_at_configure_time_with_what_to_do(options, message):
    """Nothing is accepted and ignored, nothing fails at first use."""
    with pytest.raises(streamll.ConfigurationError, match=message):
        streamll.configure(**options)


def test_a_spool_stays_where_it_was_meant_when_the_program_changes_its_folder(
    tmp_path, monkeypatch
):
    """A relative path is taken from the folder in which the sink was made."""
    monkeypatch.chdir(tmp_path)
    sink = MemorySink(spool="events.spool")
    monkeypatch.chdir("/")
    assert sink.delivery.spool == str(tmp_path / "events.spool")


@pytest.mark.parametrize(
    ("sink", "option", "meant"),
    [
        (MemorySink, "failure_treshold", "failure_threshold"),
        (RedisSink, "stream_keyy", "stream_key"),
        (RabbitMQSink, "exchnge", "exchange"),
    ],
)
def test_misspelt_sink_options_are_refused_with_a_suggestion(sink, option, meant):
    """From a sink's own options as from those of every sink, when it is made."""
    with pytest.raises(streamll.ConfigurationError, match=f"did you mean '{meant}'"):
        sink(**{option: 5})


BAD_DELIVERY = [
    (dict(buffer_size=0), "buffer_size must be a whole number above 0, not 0"),
    (dict(recovery_timeout=float("nan")), "recovery_timeout must be a number above 0"),
    (dict(overflow="drop"), "unknown overflow 'drop'"),
    (dict(circuit_breaker="off"), "circuit_breaker must be True or False"),
    (dict(batch_age=-1), "batch_age must be a number of at least 0"),
    (dict(deadline=0), "deadline must be a number above 0"),
    (dict(batch_age=True), "batch_age must be a number of at least 0, not True"),
    (dict(spool=True), "spool must be the path of a file, such as 'events.spool', not True"),
    (dict(spool=""), "spool must be the path of a file"),
    (dict(spool="/"), "spool must be the path of a file"),
    (dict(spool="a\0b"), "spool must be the path of a file"),
    (dict(recovery_timeout=10**400), "recovery_timeout must be a number above 0"),
    (dict(only=[]), r"only=\[\] would keep no event at all; leave it out to keep all"),
    (dict(only=7), r"7 is no pattern; write e.g. only=\['token', 'error'\]"),
]


@pytest.mark.parametrize(("options", "message"), BAD_DELIVERY)
def test_delivery_options_are_validated(options, message):
    """Each bad value is named with what would do."""
    with pytest.raises(streamll.ConfigurationError, match=message):
        MemorySink(**options)


def test_a_sync_sink_with_an_async_write_is_told_to_derive_from_async_sink():
    """The most likely mistake of a sink author has its own message."""

    class Mixed(streamll.Sink):
        async def write(self, batch):
            pass

    with pytest.raises(streamll.ConfigurationError, match=r"derive from streamll\.AsyncSink"):
        streamll.configure(sinks=[Mixed()])


def test_a_sink_without_write_is_refused():
    """The one method is asked for by name."""

    class Empty(streamll.Sink):
        pass

    with pytest.raises(
        streamll.ConfigurationError, match=r"Empty must define write\(self, batch\)"
    ):
        streamll.configure(sinks=[Empty()])


def test_a_plugin_factory_that_makes_no_sink_is_refused():
    """A plugin's mistake is named, not passed on."""
    module = plugin_module(
        "plugin_nosink",
        streamll_register_sinks=lambda register: register("nosink", lambda: object()),
    )
    _plugins.registry().register(module, "nosink")
    try:
        with pytest.raises(streamll.ConfigurationError, match="made a object, which is not"):
            streamll.configure(sinks=["nosink"])
    finally:
        _plugins.registry().unregister(module)


def test_a_sink_that_forgets_super_init_gets_the_default_options():
    """Fifteen-line sinks work."""

    class Forgetful(streamll.Sink):
        def __init__(self):
            self.seen = []

        def write(self, batch):
            self.seen.extend(batch)

    sink = Forgetful()
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    assert streamll.flush()
    assert [event.event_type for event in sink.seen] == ["x"]
    assert sink.delivery.buffer_size == 10_000


def test_the_environment_names_sinks(monkeypatch, capsys):
    """STREAMLL_SINKS does what sinks= does."""
    monkeypatch.setenv("STREAMLL_SINKS", "terminal")
    streamll.configure()
    streamll.emit("from_env", n=1)
    assert streamll.flush()
    assert "from_env" in capsys.readouterr().out


def test_a_misspelt_environment_variable_is_refused(monkeypatch):
    """STREAMLL_SINK is not silently ignored."""
    monkeypatch.setenv("STREAMLL_SINK", "terminal")
    with pytest.raises(streamll.ConfigurationError, match="did you mean 'STREAMLL_SINKS'"):
        streamll.configure(sinks=[])


def test_the_kill_switch_disables_everything(monkeypatch):
    """With STREAMLL_DISABLED nothing is emitted and nothing fails."""
    monkeypatch.setenv("STREAMLL_DISABLED", "1")
    sink = MemorySink()
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    assert names(sink) == []


def test_only_filters_by_type_operation_and_glob():
    """`only` keeps what matches."""
    sink = MemorySink(only="error,docs_*,retrieval.start")
    streamll.configure(sinks=[sink])
    with streamll.trace("retrieval") as span:
        span.emit("docs_found")
        span.emit("noise")
    assert names(sink) == ["start", "docs_found"]


def test_events_after_shutdown_are_dropped_quietly_and_shutdown_is_idempotent():
    """The program may go on emitting."""
    sink = MemorySink()
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    assert streamll.shutdown()
    assert streamll.shutdown()
    streamll.emit("y")
    assert [event.event_type for event in sink.events] == ["x"]


def test_lazy_sink_names_say_what_to_install():
    """`from streamll.sinks import X` of an unknown sink is an ImportError with advice."""
    from streamll import sinks

    with pytest.raises(ImportError, match="no installed plugin registers a sink named 'kafka'"):
        sinks.KafkaSink  # noqa: B018
    assert sinks.TerminalSink.__name__ == "TerminalSink"


def test_a_replaced_configuration_is_let_go():
    """A notebook may configure a thousand times; the sinks of before are not kept."""
    sinks = [MemorySink() for _ in range(3)]
    gone = weakref.ref(sinks[0])
    for sink in sinks:
        latest = streamll.configure(sinks=[sink])
    del sinks[0]
    gc.collect()
    assert gone() is None
    assert len(repr(latest)) < 500


def test_blocks_nest_and_restore():
    """Each block gives back what was configured where it began, whatever was configured inside."""
    outer, inner, other = MemorySink(), MemorySink(), MemorySink()
    streamll.configure(sinks=[outer])
    with streamll.configure(sinks=[inner]):
        streamll.configure(sinks=[other])
        with streamll.configure(sinks=[]):
            assert streamll.get_sinks() == []
        assert streamll.get_sinks() == [other]
    assert streamll.get_sinks() == [outer]


def test_a_sink_needs_no_hash():
    """A dataclass that compares by value is a sink like any other, and is itself only."""

    @dataclasses.dataclass
    class Valued(streamll.Sink):
        path: str = "x"

        def write(self, batch):
            seen.append(self)

    seen: list[Valued] = []
    first, second = Valued(), Valued()
    streamll.configure(sinks=[first, second, first])
    streamll.emit("x")
    assert streamll.flush()
    assert len(seen) == 2
    assert {id(sink) for sink in seen} == {id(first), id(second)}


@pytest.mark.parametrize("sinks", [MemorySink, 5])
def test_sinks_that_are_no_list_are_refused_with_what_to_write(sinks):
    """A class or a number is no list of sinks."""
    with pytest.raises(streamll.ConfigurationError, match=r"sinks=\[TerminalSink\(\)\]"):
        streamll.configure(sinks=sinks)


@pytest.fixture
def often_switching():
    """Threads take turns between almost any two bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_configuring_from_many_threads_leaves_a_living_configuration(often_switching):
    """Whoever was last, its sinks deliver; nobody closes what another one put in force."""
    barrier = threading.Barrier(4)

    def configure(sink):
        barrier.wait()
        streamll.configure(sinks=[sink])

    for _ in range(150):
        threads = [threading.Thread(target=configure, args=(MemorySink(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (sink,) = streamll.get_sinks()
        streamll.emit("x")
        assert streamll.flush()
        assert sink.stats.dropped == {}
        assert len(sink.events) == 1


class Slow(streamll.Sink):
    """Writes when it is let."""

    def __init__(self):
        super().__init__()
        self.entered, self.gate, self.written = threading.Event(), threading.Event(), 0

    def write(self, batch):
        self.entered.set()
        self.gate.wait()
        self.written += len(batch)


@pytest.mark.parametrize("second", [streamll.shutdown, streamll.flush])
def test_a_second_wait_waits_for_what_the_first_one_closes(second):
    """While one thread shuts down, another does not take that for done."""
    sink = Slow()
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    sink.entered.wait()
    first = threading.Thread(target=streamll.shutdown, args=(60,))
    first.start()
    while streamll.get_sinks():
        continue
    assert not second(timeout=0.05)
    sink.gate.set()
    assert second(timeout=60)
    assert sink.written == 1
    first.join()


def test_a_shutdown_by_a_sink_leaves_the_rest_to_the_next_one():
    """It can only begin to close; whoever shuts down later waits for what is held."""
    verdicts, emitted = [], threading.Event()

    class Rash(streamll.Sink):
        def write(self, batch):
            emitted.wait()
            if not verdicts:
                verdicts.append(streamll.shutdown())

    sink = Rash(batch_size=10)
    streamll.configure(sinks=[sink])
    for _ in range(500):
        streamll.emit("x")
    emitted.set()
    while not verdicts:
        time.sleep(0.001)
    assert verdicts == [False]
    assert streamll.shutdown(60)
    assert sink.stats.delivered == 500


def test_an_interrupted_shutdown_is_finished_by_the_next_one():
    """Ctrl-C in `shutdown` leaves no sink unclosed and no event uncounted."""
    sink = Slow()
    sink.close = sink.entered.clear
    streamll.configure(sinks=[sink])
    streamll.emit("x")
    sink.entered.wait()
    main = threading.get_ident()
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        streamll.shutdown(60)
    sink.gate.set()
    assert streamll.shutdown(60)
    assert sink.written == 1
    assert not sink.entered.is_set()


def test_a_configure_that_fails_opens_nothing():
    """A sink that cannot be used leaves no open channel to the sinks before it."""

    class Stubborn(streamll.Sink):
        def write(self, batch):
            pass

        @property
        def delivery(self):
            raise RuntimeError

    before = MemorySink()
    with pytest.raises(RuntimeError):
        streamll.configure(sinks=[before, Stubborn()])
    assert not before.is_running


@pytest.mark.parametrize("timeout", [None, "5", True, float("nan")])
@pytest.mark.parametrize("call", [streamll.flush, streamll.shutdown, streamll.drain_on_sigterm])
def test_a_timeout_that_is_no_number_is_refused_before_anything_happens(call, timeout):
    """What is configured stays as it is."""
    with streamll.configure(sinks=[MemorySink()]) as configuration:
        with pytest.raises(streamll.ConfigurationError, match="must be a number of seconds"):
            call(timeout)
        assert streamll.get_sinks() == list(configuration.sinks)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_another_thread_configures_can_configure():
    """It inherits no lock that a thread of its parent held."""
    stop = threading.Event()

    def configure():
        while not stop.is_set():
            streamll.configure(sinks=[MemorySink()])

    thread = threading.Thread(target=configure)
    thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)  # else it would hang for ever
                streamll.configure(sinks=[MemorySink()])
                streamll.shutdown(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_emit_does_not_raise_where_logging_does(caplog):
    """A processor that raises, and a handler that raises when it is told."""

    class Raising(logging.Handler):
        def emit(self, record):
            raise RuntimeError("handler")

    def refuse(event):
        raise ValueError("processor")

    handler = Raising()
    logging.getLogger("streamll").addHandler(handler)
    try:
        streamll.configure(sinks=[MemorySink()], processors=[refuse])
        streamll.emit("x")
    finally:
        logging.getLogger("streamll").removeHandler(handler)


def test_what_no_sink_was_given_is_counted():
    """Vetoes and processors that raise: the configuration says how many, and why."""

    def refuse(event):
        if event.event_type == "bad":
            raise ValueError("processor")
        return None if event.event_type == "vetoed" else event

    configuration = streamll.configure(sinks=[MemorySink()], processors=[refuse])
    for name in ("good", "bad", "vetoed", "bad"):
        streamll.emit(name)
    assert configuration.lost == {"processor_error": 2, "vetoed": 1}
