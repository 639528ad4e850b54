"""The SSE example in a headless browser: what the reader sees, also over a restart."""

from __future__ import annotations

import html
import re
import shutil
import subprocess

import pytest

from support.rabbitmq_server import free_port
from support.redis_server import wait_until
from support.sse import ask, story, web

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]

#: Milliseconds of the browser's own time, which stands still while the page waits for the server:
#: enough for very many attempts to connect.
BUDGET = 1_000_000_000


@pytest.fixture
def browse(tmp_path):
    """Start a browser at a URL; it prints the page when nothing more happens there."""
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
        f"--virtual-time-budget={BUDGET}", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    started = []

    def start(url):
        command = [BROWSER, *options, url]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shown(browser):
    """Return what the page shows at the end: text and state."""
    page, _ = browser.communicate(timeout=120)
    return [html.unescape(re.search(rf'<p id="{name}">([^<]*)</p>', page)[1])
            for name in ("text", "state")]  # fmt: skip


def test_the_page_shows_the_whole_answer(redis_server, browse):
    """And again after a reload, as the answer is in its address."""
    port = free_port()
    with web(redis_server, port):
        page = f"http://127.0.0.1:{port}/#{ask(port).split('/')[-2]}"
        for _ in range(2):
            assert shown(browse(page)) == [story(), "done"]


def test_the_page_survives_a_restart_of_the_web_process(redis_server, browse):
    """The browser reconnects by itself, and no token is missing or there twice."""
    port = free_port()
    with web(redis_server, port, delay=0.1):
        browser = browse(f"http://127.0.0.1:{port}/#{ask(port).split('/')[-2]}")
        wait_until(lambda: redis_server.run("INFO", "clients")["blocked_clients"], "the reader")
        wait_until(lambda: redis_server.run("XLEN", "answers") > 10, "some tokens")
    with web(redis_server, port):
        assert shown(browser) == [story(), "done"]
