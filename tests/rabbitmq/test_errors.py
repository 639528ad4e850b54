"""Errors by exact type or reply code; no text of a client or broker with secrets in it."""

from __future__ import annotations

import ssl

import aiormq.exceptions as amqp
import pytest

from streamll import OutcomeUnknown, PermanentError, TransientError
from streamll_rabbitmq._address import Address
from streamll_rabbitmq._errors import learnt_size, of_connecting, of_publishing, refuses_writes
from streamll_rabbitmq._settings import RabbitMQSettings

ADDRESS = Address(host="rabbit", vhost="sales", username="CANARY", password="CANARY")
SETTINGS = RabbitMQSettings(addresses=(ADDRESS,), exchange="ai_events")
TEXT = "ACCESS_REFUSED - to 'CANARY'"


def untrusted() -> ssl.SSLCertVerificationError:
    """Return what a wrong certificate raises."""
    error = ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED")
    error.verify_message = "Hostname mismatch"
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (amqp.ProbableAuthenticationError(TEXT), "login refused"),
        (amqp.ConnectionClosed(530, TEXT), "virtual host 'sales'"),
        (amqp.ConnectionNotAllowed(TEXT), "virtual host 'sales'"),
        (amqp.ChannelAccessRefused(TEXT), "no right to use exchange 'ai_events'"),
        (amqp.ChannelNotFoundEntity(TEXT), "there is no exchange 'ai_events'"),
        (amqp.ChannelPreconditionFailed("inequivalent arg 'type'"), "inequivalent arg 'type'"),
        (untrusted(), "Hostname mismatch"),
    ],
)
def test_what_the_operator_must_change_is_permanent(error: Exception, says: str) -> None:
    """Rows 18, 20, 21: it names virtual host or exchange, and no credentials."""
    found = of_connecting(error, ADDRESS, SETTINGS)
    assert isinstance(found, PermanentError)
    assert says in str(found)
    assert "rabbit:5672" in str(found)
    assert "CANARY" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("CANARY"),
        amqp.AMQPConnectionError("CANARY"),
        amqp.ConnectionClosed(320, "CANARY"),
        amqp.ConnectionInternalError("CANARY"),
        ssl.SSLError("CANARY"),
        RuntimeError("CANARY"),
    ],
)
def test_everything_else_before_a_publish_is_transient(error: Exception) -> None:
    """Nothing was sent, and it may work next time."""
    found = of_connecting(error, ADDRESS, SETTINGS)
    assert isinstance(found, TransientError)
    assert "CANARY" not in str(found)


def test_after_a_publish_nothing_is_known() -> None:
    """A timeout or a lost channel is unknown, never failed; unless nothing was sent."""
    lost = amqp.ConnectionClosed(320, "CANARY")
    assert isinstance(of_publishing(lost, ADDRESS, sent=True, blocked=False), OutcomeUnknown)
    assert "CANARY" not in str(of_publishing(lost, ADDRESS, sent=True, blocked=False))
    blocked = of_publishing(None, ADDRESS, sent=False, blocked=True)
    assert isinstance(blocked, TransientError)
    assert "blocking publishers" in str(blocked)


def test_a_size_limit_is_read_from_the_refusal() -> None:
    """Brokers differ in their limit and in how they say it."""
    for text in ("message size 9 is larger than configured max size 5", "larger than max size 5"):
        assert learnt_size(amqp.ChannelPreconditionFailed(text)) == 5
    assert learnt_size(amqp.ChannelPreconditionFailed("inequivalent arg")) is None
    assert learnt_size(None) is None


def test_only_a_refused_right_is_about_writing() -> None:
    """403 and nothing else."""
    assert refuses_writes(amqp.ChannelAccessRefused(TEXT))
    assert not refuses_writes(amqp.ChannelNotFoundEntity(TEXT))
    assert not refuses_writes(None)
