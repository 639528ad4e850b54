"""What `import streamll` does, and does not."""

from __future__ import annotations

import subprocess
import sys

import streamll


def in_fresh_interpreter(code: str) -> str:
    """Run *code* in a new interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def test_importing_streamll_loads_neither_dspy_nor_plugins_nor_clients_and_starts_no_thread():
    """A service that imports streamll pays for what it uses."""
    heavy = ("dspy", "litellm", "redis", "aio_pika", "rich", "pydantic")
    plugins = ("streamll_terminal", "streamll_redis", "streamll_rabbitmq")
    code = (
        "import sys, threading, streamll, streamll.sinks, streamll.testing\n"
        f"print([m for m in {heavy + plugins!r} if m in sys.modules], threading.active_count())"
    )
    assert in_fresh_interpreter(code) == "[] 1"


def test_configuring_starts_no_thread_until_the_first_event():
    """Threads start lazily and end with shutdown."""
    code = (
        "import threading, streamll\n"
        "from streamll.testing import MemorySink\n"
        "streamll.configure(sinks=[MemorySink()])\n"
        "before = threading.active_count()\n"
        "streamll.emit('x'); streamll.flush()\n"
        "during = threading.active_count()\n"
        "streamll.shutdown()\n"
        "print(before, during, threading.active_count())"
    )
    assert in_fresh_interpreter(code) == "1 2 1"


def test_all_public_names_exist_and_are_documented():
    """`__all__` is true, and nothing in it is undocumented."""
    for name in streamll.__all__:
        thing = getattr(streamll, name)
        assert isinstance(thing, str) or thing.__doc__ or name == "Report", name
