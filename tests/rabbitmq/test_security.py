"""TLS, secrets and payload, against a real broker (S1, S2, S10)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from streamll import DeliveryError, PermanentError, TransientError
from support.events import batch_of, make_event, make_events
from support.rabbitmq_producer import patient

if TYPE_CHECKING:
    from support.rabbitmq_probe import Probe
    from support.rabbitmq_server import Certificates, RabbitMQServer

pytestmark = [pytest.mark.broker, pytest.mark.anyio]


async def test_a_trusted_broker_gets_the_events(
    broker: RabbitMQServer, probe: Probe, certificates: Certificates, exchange: str
) -> None:
    """S10: right chain and right name."""
    queue = await probe.bind(exchange)
    url = f"amqps://localhost:{broker.tls_port}"
    sink = patient(url, exchange=exchange, tls_ca_file=certificates.authority)
    assert await sink.write(batch_of(make_events(3))) is None
    assert await probe.count(queue) == 3
    await sink.close()


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("unknown authority", "self-signed certificate|unable to get"),
        ("wrong host name", "IP address mismatch"),
        ("not TLS at all", "cannot connect|did not answer"),
    ],
)
async def test_an_untrusted_broker_gets_nothing(
    broker: RabbitMQServer,
    probe: Probe,
    certificates: Certificates,
    exchange: str,
    case: str,
    says: str,
) -> None:
    """S10: no event, and no password, before the broker is verified."""
    queue = await probe.bind(exchange)
    host = "127.0.0.1" if case == "wrong host name" else "localhost"
    port = broker.port if case == "not TLS at all" else broker.tls_port
    authority = None if case == "unknown authority" else certificates.authority
    sink = patient(f"amqps://{host}:{port}", exchange=exchange, tls_ca_file=authority)
    kind = TransientError if case == "not TLS at all" else PermanentError
    with pytest.raises(kind, match=says):
        await sink.write(batch_of(make_events(1)))
    assert sink.connection is None
    assert await probe.count(queue) == 0
    await sink.close()


async def test_an_expired_certificate_gets_nothing(certificates: Certificates) -> None:
    """S10: of the right authority and name, but out of date."""
    received = asyncio.Event()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificates.expired())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        sink = patient(f"amqps://localhost:{port}", tls_ca_file=certificates.authority)
        with pytest.raises(PermanentError, match="certificate has expired"):
            await sink.write(batch_of(make_events(1)))
        assert not received.is_set()
        await sink.close()


async def test_only_an_explicit_context_skips_verification(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The way out exists, is explicit, and warns."""
    await probe.bind(exchange)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"amqps://127.0.0.1:{broker.tls_port}"
    with pytest.warns(UserWarning, match="not verified"):
        sink = patient(url, exchange=exchange, ssl_context=context)
    assert await sink.write(batch_of(make_events(1))) is None
    await sink.close()


async def test_neither_secrets_nor_payload_reach_logs_or_tracebacks(
    broker: RabbitMQServer, probe: Probe, exchange: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S1, S2: canaries in user, password and payload, through every kind of failure."""
    caplog.set_level(logging.DEBUG)
    for name in ("aiormq", "aiormq.connection", "aiormq.channel", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    canary = "".join(["CAN", "ARY"])  # a traceback quotes this file
    await probe.exchange(f"{exchange}-direct", "direct")
    sinks = [
        patient(broker.url(), exchange=exchange, username=canary, password=canary),
        patient(broker.url(), exchange=f"{exchange}-direct"),
        patient(broker.url(vhost="closed"), exchange=exchange),
        patient(broker.url(), exchange=exchange),
        patient(f"amqp://{canary}:{canary}@127.0.0.1:1", exchange=exchange),
    ]
    events = [make_event(data={"token": canary}), make_event(name=canary, operation=canary)]
    texts: list[str] = []
    for sink in sinks:
        try:
            texts.append(repr(await sink.write(batch_of(events))))
        except DeliveryError as error:
            texts += [traceback.format_exc(), repr(error)]
        await sink.close()
    ours = [record for record in caplog.records if record.name.startswith("streamll")]
    assert len(texts) == 9
    assert [record.getMessage()[:24] for record in ours] == ["RabbitMQ returns events:"]
    assert canary not in "".join(texts) + caplog.text


@pytest.mark.parametrize("queue", ["streamll_reader", None])
def test_a_refused_reader_ends_with_one_exception(
    broker: RabbitMQServer, queue: str | None
) -> None:
    """`asyncio.run` finds no task of the client left that it would print, with the user's name."""
    program = (
        "import asyncio, sys, streamll\n"
        "async def read():\n"
        "    options = dict(exchange='streamll_reader', queue=sys.argv[2] or None)\n"
        "    async for _ in streamll.consume(sys.argv[1], **options): pass\n"
        "try: asyncio.run(read())\n"
        "except streamll.PermanentError as error: print(error)\n"
    )
    url = f"amqp://nobody:nothing@127.0.0.1:{broker.port}/"
    command = [sys.executable, "-W", "error", "-c", program, url, queue or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert "no right to use" in done.stdout


async def test_the_client_logs_nothing_for_us_and_all_for_others(
    broker: RabbitMQServer, exchange: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that uses the same client library keeps its log lines."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "aiormq.connection")
    sink = patient(broker.url(), exchange=exchange, mandatory=False)
    await sink.write(batch_of(make_events(3)))
    await sink.close()
    assert not [record for record in caplog.records if record.name.startswith("aiormq")]
    logging.getLogger("aiormq.connection").warning("of somebody else")
    assert "of somebody else" in caplog.text
    await asyncio.sleep(0)
