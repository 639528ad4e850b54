"""The options: what is wrong is said when the sink is made, and no secret is ever shown."""

from __future__ import annotations

import pytest

from streamll import ConfigurationError
from streamll_rabbitmq import RabbitMQSink
from streamll_rabbitmq._address import Address


def test_the_sink_needs_no_argument() -> None:
    """Localhost, exchange `streamll`, the documented routing key and delivery options."""
    sink = RabbitMQSink()
    assert (sink.settings.exchange, sink.settings.durable) == ("streamll", True)
    assert sink.settings.routing_key.text == "streamll.{operation}.{event_type}"
    assert (sink.delivery.failure_threshold, sink.delivery.recovery_timeout) == (3, 30.0)
    assert sink.connection is None
    assert not sink.circuit_open


def test_the_signature_of_the_guide_works() -> None:
    """The options guide's own call, with a host on this machine."""
    sink = RabbitMQSink(
        amqp_url="amqp://user:pass@localhost:5672/",
        exchange="ai_events",
        routing_key="dspy.{operation}.{event_type}",
        durable=True,
        circuit_breaker=True,
    )
    assert sink.settings.exchange == "ai_events"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://host", Address(host="host")),
        ("amqp://host/", Address(host="host")),
        ("amqp://host/%2F", Address(host="host")),
        ("amqp://host:5673/team%20a%2Fb", Address(host="host", port=5673, vhost="team a/b")),
        ("amqps://host", Address(host="host", port=5671, tls=True)),
        ("amqp://[::1]:5672", Address(host="::1")),
        ("amqp://u:p%40s%2Fs@host", Address(host="host", username="u", password="p@s/s")),
    ],
)
def test_a_url_is_read_as_amqp_clients_read_it(url: str, expected: Address) -> None:
    """Ports, virtual hosts and percent-encoded credentials."""
    assert Address.parse(url) == expected


@pytest.mark.parametrize(
    "given",
    [
        "amqp://a,amqp://b:1",
        ["amqp://a", "amqp://b:1"],
        "amqp://user:pass@a/, amqp://user:p,ss@b:1/",
    ],
)
def test_a_cluster_is_a_list_or_a_comma_list(given: str | list[str]) -> None:
    """Both ways name the same nodes, in order."""
    assert [str(address) for address in Address.parse_all(given)] == ["a:5672", "b:1"]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://host", "unknown RabbitMQ URL scheme 'http'"),
        ("localhost:5672", "looks like"),
        (7, "looks like"),
        ([], "one and the same virtual host"),
        (["amqp://a/x", "amqp://b/y"], "one and the same virtual host"),
        ("amqp://host:port", "must be 1 to 65535"),
        ("amqp://user:pa/ss@host", "%2F"),
        ("amqp://user:pa#ss@host", "%23"),
        ("amqp://user:p@ss/w:rd@host", "%40"),
        ("amqps://host?no_verify_ssl=false", "always verified"),
        ("amqps://host?no_verify_ssl=0", "always verified"),
        ("amqps://host?cafile=x", "write tls_ca_file instead"),
        ("amqp://host?hartbeat=5", "did you mean 'heartbeat'"),
        ("amqp://host?heartbeat=5", "pass it as a keyword"),
    ],
)
def test_a_bad_url_is_refused_with_a_hint(url: object, hint: str) -> None:
    """Nothing that a client might silently take is left to it."""
    with pytest.raises(ConfigurationError, match=hint):
        RabbitMQSink(url)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"exchange": ""}, "exchange must be text"),
        ({"exchange": "é" * 128}, "exchange must be text of 1 to 255 bytes"),
        ({"app_id": "x" * 256}, "app_id"),
        ({"alternate_exchange": ""}, "alternate_exchange"),
        ({"routing_key": "{opration}"}, "did you mean 'operation'"),
        ({"routing_key": "{operation.__class__}"}, "unknown template field"),
        ({"routing_key": "x" * 250 + "{name}"}, "too little of 255 bytes"),
        ({"op_timeout": 0}, "op_timeout"),
        ({"heartbeat": 2.5}, "heartbeat"),
        ({"confirm_window": 0}, "confirm_window"),
        ({"durable": "yes"}, "durable must be True or False"),
        ({"falure_threshold": 3}, "did you mean 'failure_threshold'"),
        ({"tls_ca_file": "/x.pem"}, "need an amqps:// URL"),
    ],
)
def test_a_bad_option_is_refused_when_the_sink_is_made(
    options: dict[str, object], hint: str
) -> None:
    """S14, S18: never at first use."""
    with pytest.raises(ConfigurationError, match=hint):
        RabbitMQSink(**options)


def test_a_missing_certificate_file_is_refused_when_the_sink_is_made() -> None:
    """S18: the message does not repeat paths of keys."""
    with pytest.raises(ConfigurationError, match="TLS files: FileNotFoundError"):
        RabbitMQSink("amqps://localhost", tls_ca_file="/nowhere/ca.pem")


def test_a_password_over_an_open_network_is_warned_about() -> None:
    """S11: and only then."""
    with pytest.warns(UserWarning, match="sent in clear; use amqps"):
        RabbitMQSink("amqp://user:secret@broker.example")
    RabbitMQSink("amqp://user:secret@127.0.0.1")
    RabbitMQSink("amqp://broker.example")
    RabbitMQSink("amqps://user:secret@broker.example")


def test_no_secret_is_shown() -> None:
    """S1: user, password and anything else of the URL stay out of repr, str and errors."""
    sink = RabbitMQSink("amqp://CANARY:CANARY@localhost", username="CANARY", password="CANARY")
    shown = f"{sink} {sink!r} {sink.settings} {sink.settings.addresses} {sink.stats}"
    with pytest.raises(ConfigurationError) as raised:
        RabbitMQSink("amqp://CANARY:CAN/ARY@localhost?token=CANARY")
    assert "CANARY" not in shown + str(raised.value)


def test_credentials_come_from_keywords_then_url_then_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A URL in a repository needs no password in it."""
    monkeypatch.setenv("STREAMLL_RABBITMQ_USERNAME", "env")
    monkeypatch.setenv("STREAMLL_RABBITMQ_PASSWORD", "env")

    def login(url: str, **options: str) -> tuple[str, str]:
        settings = RabbitMQSink(url, **options).settings
        return settings.login(settings.addresses[0])

    assert login("amqp://localhost") == ("env", "env")
    assert login("amqp://u:p@localhost") == ("u", "p")
    assert login("amqp://u:p@localhost", username="k", password="w") == ("k", "w")
