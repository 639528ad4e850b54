"""Options and URLs: understood as a whole, or refused before anything connects."""

from __future__ import annotations

import inspect
import ssl
import warnings

import pytest

import streamll
from streamll import ConfigurationError
from streamll_redis import RedisSettings, RedisSink
from streamll_redis._address import Address


def test_the_seed_calls_work_without_arguments_and_with_its_keywords():
    """The signature of the seed: every name, callable with nothing."""
    sink = RedisSink()
    assert (sink.settings.address.port, sink.settings.stream_key) == (6379, "streamll_events")
    assert sink.delivery.circuit_breaker
    assert (sink.delivery.failure_threshold, sink.delivery.recovery_timeout) == (3, 30.0)
    RedisSink(
        url="redis://localhost:6379",
        stream_key="streamll_events",
        circuit_breaker=True,
        failure_threshold=3,
        recovery_timeout=10.0,
    )


def test_an_unset_variable_means_the_default_server():
    """`RedisSink(url=os.getenv("REDIS_URL"))` of the seed works when it is unset."""
    assert RedisSink(url=None).settings.address == Address()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://h:7", Address(host="h", port=7)),
        ("redis://h/3", Address(host="h", db=3)),
        ("redis://h?db=4", Address(host="h", db=4)),
        ("rediss://h", Address(host="h", tls=True)),
        ("redis://[::1]:7", Address(host="::1", port=7)),
        ("redis://u:p%40%2F@h", Address(host="h", username="u", password="p@/")),
        ("redis://:p@h", Address(host="h", password="p")),
        ("unix:///run/r.sock?db=2", Address(host="", path="/run/r.sock", db=2)),
        ("unix://u:p@/r.sock", Address(host="", path="/r.sock", username="u", password="p")),
    ],
)
def test_urls_are_read(url: str, address: Address):
    """Each part of a URL ends in its own field."""
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("localhost:6379", "looks like"),
        ("http://h", "scheme"),
        ("reddis://h", "did you mean 'redis'"),
        ("redis://h:99999", "port"),
        ("redis://h/one", "must be a number"),
        ("redis://h?db=-1", "must be a number"),
        ("redis://h?databse=1", "unknown Redis URL option"),
        ("rediss://h?ssl_cert_reqs=none", "ssl_context"),
        ("rediss://h?ssl_check_hostname=false", "ssl_context"),
        ("redis://h?password=hunter2", "before the host"),
        ("redis://h?socket_timeout=1", "op_timeout"),
        ("redis://h?protocol=3", "RESP2"),
        ("redis://h?maxlen=5", "maxlen=..."),
        ("unix://", "unix:///"),
    ],
)
def test_what_is_not_understood_is_refused_at_once(url: str, hint: str):
    """A typing error in a URL is found by `configure`, with what to write instead."""
    with pytest.raises(ConfigurationError, match=r"(?i)redis|unix") as caught:
        RedisSink(url)
    assert hint in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"maxlen": 0},
        {"maxlen": True},
        {"partitions": 0},
        {"max_keys": -1},
        {"op_timeout": 0},
        {"op_timeout": "2"},
        {"stream_key": ""},
        {"stream_key": "{tenant}"},
        {"stream_key": "a{{b}}c{{d}}"},
        {"stream_key": "{{}}"},
        {"client": object()},
        {"tls_ca_file": "/nowhere.pem", "url": "rediss://h"},
        {"failure_treshold": 3},
        {"circuit_breaker": "yes"},
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, object]):
    """S18: no option is accepted and found wanting later."""
    with pytest.raises(ConfigurationError):
        RedisSink(**options)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("redis://h?stream_kye=x", "did you mean 'stream_key'"),
        ("redis://h?maxlen=many", "maxlen"),
        ("redis://h?password=hunter2", "credentials before the host"),
    ],
)
def test_a_url_of_the_environment_is_checked_when_it_is_configured(monkeypatch, url, hint):
    """S18: what STREAMLL_SINKS says wrong is said by `configure`, never at the first event."""
    monkeypatch.setenv("STREAMLL_SINKS", url)
    with pytest.raises(ConfigurationError) as caught:
        streamll.configure()
    assert hint in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_in_no_text():
    """Neither repr nor str of anything a user may print or log holds a password."""
    sink = RedisSink("redis://admin:hunter2@localhost", password="hunter3")
    texts = [repr(sink), str(sink), repr(sink.settings), repr(sink.settings.address)]
    texts += [str(sink.settings.address), repr(vars(sink)), repr(sink.stats)]
    assert not [text for text in texts if "hunter" in text or "admin" in text]


def test_credentials_come_from_keyword_then_url_then_environment(monkeypatch):
    """The most explicit source wins; the environment fills what is left."""
    monkeypatch.setenv("STREAMLL_REDIS_PASSWORD", "env")
    monkeypatch.setenv("STREAMLL_REDIS_USERNAME", "envuser")

    def login(url: str, **options: object) -> object:
        return RedisSink(url, **options).settings.login()

    assert login("redis://:url@localhost", password="key")["password"] == "key"
    assert login("redis://:url@localhost")["password"] == "url"
    assert login("redis://localhost") == {"username": "envuser", "password": "env"}


@pytest.mark.parametrize("host", ["redis.example.com", "10.0.0.7"])
def test_a_password_in_clear_to_another_machine_is_warned_about(host: str):
    """S11: a secret that anyone on the way can read is worth a warning."""
    with pytest.warns(UserWarning, match="in clear; use rediss"):
        RedisSink(f"redis://:secret@{host}")


@pytest.mark.parametrize("url", ["redis://:s@localhost", "redis://:s@127.0.0.1", "redis://:s@[::1]",
                                 "rediss://:s@h", "redis://h", "unix://:s@/s"])  # fmt: skip
def test_no_warning_where_nobody_listens(url: str):
    """Loopback, TLS and no password are fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RedisSink(url)


def test_tls_verifies_chain_and_host_name_unless_a_context_says_otherwise():
    """S10: verification is off only through an explicit ssl_context, with a warning."""
    context = RedisSink("rediss://h").settings.tls()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    lax = ssl.create_default_context()
    lax.check_hostname = False
    with pytest.warns(UserWarning, match="not verified"):
        RedisSink("rediss://h", ssl_context=lax)


def test_every_option_is_a_setting():
    """The sink hides none of its options and invents none."""
    named = set(inspect.signature(RedisSink).parameters) - {"url", "delivery"}
    assert named == {field.name for field in RedisSettings.__attrs_attrs__} - {"address"}
