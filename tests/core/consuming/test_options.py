"""Options of `consume` and `EventConsumer`: refused at the call, with advice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streamll import ConfigurationError, PluginError
from streamll._plugins import registry
from streamll.consuming import EventConsumer, consume
from streamll.source import Start
from streamll.testing._source import MemorySource
from support.plugins import plugin_module

pytestmark = pytest.mark.usefixtures("scheme")


def made(url, **options):
    """What the source was made with."""
    return consume(url, **options)._pull.reader.link.source.made_with


def kept(url, **options):
    """What is kept of what is read."""
    return consume(url, **options)._pull.reader.settings


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"stream_kye": "x"}, "did you mean 'stream_key'"),
        ({"grop": "g"}, "did you mean 'group'"),
        ({"start": "x"}, "unknown option of ListSource 'start'"),
        ({"batch_size": 5}, "unknown option of ListSource 'batch_size'"),
        ({"since": "-10 parsecs"}, "write e.g. '-90s'"),
        ({"since": ""}, "leave it out"),
        ({"since": "-1e999d"}, "write e.g. '-90s'"),
        ({"since": "-1e9d"}, "write e.g. '-90s'"),
        ({"since": timedelta(days=999_999_999)}, "first year"),
        ({"since": 5}, "not a int"),
        ({"dedup": -1}, "dedup must be a whole number of at least 0"),
        ({"dedup": True}, "dedup must be a whole number"),
        ({"dedup": 1.5}, "dedup must be a whole number"),
        ({"group": ""}, "group must be a name"),
        ({"execution": 5}, "execution must be a name"),
        ({"only": [5]}, "5 is no pattern"),
        ({"only": "token,"}, "'' is no pattern"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_at_the_call(options, advice):
    """Not at the first event, and with what to write instead."""
    for reader in (consume, EventConsumer):
        with pytest.raises(ConfigurationError, match=advice):
            reader("list://", **options)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"retries": -1}, "retries must be a whole number"),
        ({"concurrency": 0}, "concurrency must be a whole number of at least 1"),
        ({"retry_delay": -0.1}, "retry_delay must be a number"),
        ({"retry_delay": float("nan")}, "retry_delay must be a number"),
    ],
)
def test_the_options_of_a_consumer_are_checked_too(options, advice):
    """The same for what only `EventConsumer` takes."""
    with pytest.raises(ConfigurationError, match=advice):
        EventConsumer("list://", **options)


@pytest.mark.parametrize("url", ["localhost", "", None, 5, ["list://"]])
def test_what_is_neither_url_nor_source_is_refused(url):
    """The message shows what a URL looks like."""
    with pytest.raises(ConfigurationError, match="redis://"):
        consume(url)


def test_a_scheme_that_nobody_registered_says_what_to_install():
    """The newcomer's first mistake."""
    with pytest.raises(ConfigurationError, match="pip install"):
        consume("gopher://localhost")


def test_a_plugin_that_makes_something_else_is_found_out():
    """Before it is read."""
    with pytest.raises(ConfigurationError, match="no Source"):
        consume("liar://")


def test_a_refusal_never_shows_the_url():
    """It may hold a password."""
    for wrong in ({"nope": 1}, {"since": "-x"}, {"dedup": "many"}):
        with pytest.raises(ConfigurationError) as refusal:
            consume("list://user:hunter2@host", **wrong)
        assert "hunter2" not in str(refusal.value)


def test_query_parameters_that_are_options_are_taken_from_the_url():
    """Typed like their defaults; the others stay for the source to judge."""
    url = "list://host/0?stream_key=x&block=9&quiet=yes&db=3"
    wanted = {"url": "list://host/0?db=3", "stream_key": "x", "block": 9, "quiet": True}
    assert made(url).items() >= wanted.items()


def test_our_own_options_work_in_the_url_as_well():
    """So that a command line needs nothing but a URL."""
    url = "list://?since=beginning&group=g&only=token,*.end&execution=e&dedup=7"
    assert made(url).items() >= {"start": Start(beginning=True), "group": "g"}.items()
    settings = kept(url)
    assert (settings.only, settings.execution, settings.dedup) == (("token", "*.end"), "e", 7)


def test_keywords_win_over_the_url():
    """The program knows better than its configuration."""
    assert (
        made("list://?group=a&block=1", group="b", block=2).items()
        >= {
            "group": "b",
            "block": 2,
        }.items()
    )
    assert kept("list://?dedup=5", dedup=0).dedup == 0


@pytest.mark.parametrize("name", ["start", "url"])
def test_what_we_give_the_source_cannot_come_from_the_url(name):
    """Refused like any unknown option."""
    with pytest.raises(ConfigurationError, match=f"unknown option of ListSource '{name}'"):
        consume(f"list://?{name}=x")


@pytest.mark.parametrize(
    ("since", "start"),
    [
        (None, Start()),
        ("now", Start()),
        ("beginning", Start(beginning=True)),
        ("1700000000000-5", Start(position="1700000000000-5")),
        (datetime(2026, 1, 2, tzinfo=UTC), Start(time=datetime(2026, 1, 2, tzinfo=UTC))),
        ("2026-01-02T00:00:00Z", Start(time=datetime(2026, 1, 2, tzinfo=UTC))),
    ],
)
def test_since_says_where_to_begin(since, start):
    """The source is made with it."""
    assert made("list://", since=since)["start"] == start


def test_a_span_counts_back_from_now():
    """As text and as a timedelta."""
    before = datetime.now(UTC)
    starts = [made("list://", since=since)["start"] for since in ("-10m", timedelta(minutes=10))]
    after = datetime.now(UTC)
    for start in starts:
        assert before <= start.time + timedelta(minutes=10) <= after


@pytest.mark.parametrize(("since", "says"), [("10m", "write '-10m'"), ("-10x", "is not a span")])
def test_a_span_that_cannot_be_meant_is_refused(since, says):
    """It would be taken for a position, or for nothing."""
    with pytest.raises(ConfigurationError, match=says):
        made("list://", since=since)


def test_what_a_source_was_made_with_cannot_be_said_again():
    """Else it would be ignored."""
    for option in ({"since": "beginning"}, {"group": "g"}, {"stream_key": "x"}):
        with pytest.raises(ConfigurationError, match="MemorySource itself"):
            consume(MemorySource(), **option)
    assert consume(MemorySource(), only="token", dedup=3)._pull.reader.settings.dedup == 3


def test_a_source_that_takes_any_option_judges_them_itself():
    """As a sink does; but what we give it stays ours."""
    seen = {}

    class Open(MemorySource):
        def __init__(self, url, *, start, group=None, **options):
            super().__init__()
            seen.update(options)

    module = plugin_module(
        "streamll_open_plugin",
        streamll_register_sources=lambda register: register("open", Open, schemes=("open",)),
    )
    registry().register(module, "open")
    try:
        consume("open://", anything=1)
        with pytest.raises(ConfigurationError, match="'start'"):
            consume("open://", start="x")
    finally:
        registry().unregister(module)
    assert seen == {"anything": 1}


def test_a_broken_plugin_says_why(scheme):
    """A source that cannot be imported is named."""
    registry().sources["list://"] = (
        registry()
        .sources["list://"]
        .__class__(
            name="list", factory="no_such_module:Source", schemes=("list",), plugin="plugin 'list'"
        )
    )
    with pytest.raises(PluginError, match="no_such_module"):
        consume("list://")
