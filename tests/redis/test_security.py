"""TLS, access control and secrets, against real servers (S1, S2, S10)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback

import pytest

from streamll import DeliveryError, PermanentError, TransientError
from streamll.source import Start
from streamll_redis import RedisSink, RedisSource
from support.events import batch_of, make_event, make_events
from support.redis_driver import reading
from support.redis_server import RedisServer

pytestmark = pytest.mark.broker


def test_a_trusted_server_gets_the_events(start_redis, certificates):
    """S10: right chain and right name."""
    server = start_redis(tls=certificates)
    url = f"rediss://localhost:{server.tls_port}"
    sink = RedisSink(url, tls_ca_file=certificates.authority)
    assert sink.write(batch_of(make_events(2))) is None
    assert server.run("XLEN", "streamll_events") == 2
    sink.close()


@pytest.mark.parametrize("case", ["unknown authority", "wrong host name", "not TLS at all"])
def test_an_untrusted_server_gets_nothing(start_redis, certificates, case):
    """S10: no event, and no password, before the server is verified."""
    server = start_redis(tls=certificates)
    host = "127.0.0.1" if case == "wrong host name" else "localhost"
    port = server.port if case == "not TLS at all" else server.tls_port
    authority = None if case == "unknown authority" else certificates.authority
    sink = RedisSink(f"rediss://{host}:{port}", tls_ca_file=authority, password="x", op_timeout=1)
    kind = TransientError if case == "not TLS at all" else PermanentError
    with pytest.raises(kind, match=r"SSLCertVerificationError|Timeout"):
        sink.write(batch_of(make_events(1)))
    assert server.run("XLEN", "streamll_events") == 0
    assert "cmdstat_auth" not in server.run("INFO", "commandstats")


def test_only_an_explicit_context_skips_verification(start_redis, certificates):
    """The way out exists, is explicit, and warns."""
    server = start_redis(tls=certificates)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.warns(UserWarning, match="not verified"):
        sink = RedisSink(f"rediss://127.0.0.1:{server.tls_port}", ssl_context=context)
    assert sink.write(batch_of(make_events(1))) is None
    sink.close()


@pytest.mark.parametrize(
    "rules",
    [
        "~streamll_events ~{streamll_events}:* +@all",
        "~streamll_events ~{streamll_events}:* +xadd +evalsha +eval +get +set",
        "~streamll_events +xadd",
        "~* +@all -@scripting",
    ],
)
def test_a_user_with_few_rights_is_enough(start_redis, rules):
    """Scripts where they are allowed, plain XADD where only that is."""
    server = start_redis(user=f"app on >pw {rules}")
    sink = RedisSink(f"redis://app:pw@127.0.0.1:{server.port}")
    for _ in range(3):
        assert sink.write(batch_of(make_events(200))) is None
    assert server.run("XLEN", "streamll_events") == 600
    sink.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("group", "rules"),
    [
        (None, "~streamll_events +xread +xrevrange"),
        ("g", "~streamll_events ~streamll_events:dead +xreadgroup +xgroup|create +xack +xpending "
              "+xclaim +xadd"),
    ],
)  # fmt: skip
async def test_a_reader_with_few_rights_is_enough(start_redis, group, rules):
    """What the README lists is what reading takes, retry and dead letters included."""
    server = start_redis()
    server.run("ACL", "SETUSER", "app", "on", ">pw", *rules.split())
    sink = RedisSink(server.url)
    sink.write(batch_of(make_events(3)))
    sink.close()
    start = Start(beginning=True)
    source = RedisSource(
        f"redis://app:pw@127.0.0.1:{server.port}", group=group, start=start, reclaim_after=0.1
    )
    await source.open()
    first, second, third = await reading(source, 3)
    if group:
        await source.ack([first])
        await source.dead_letter(second, "test")
        await source.retry(third, 0.05)
        assert [message.attempts for message in await reading(source, 1)] == [2]
    await source.close()


def test_scripts_refused_is_said_once(start_redis, caplog):
    """A weaker promise is announced, and not for every batch."""
    server = start_redis(user="app on >pw ~* +@all -@scripting")
    sink = RedisSink(f"redis://app:pw@127.0.0.1:{server.port}")
    for _ in range(3):
        sink.write(batch_of(make_events(2)))
    assert [record.message for record in caplog.records] == [
        "Redis refuses scripts: a repeated batch may now be appended twice"
    ]
    sink.close()


def test_a_renamed_command_is_a_refused_script(start_redis):
    """Managed servers take EVALSHA away by renaming it."""
    server = start_redis(**{"rename-command": 'EVALSHA ""'})
    sink = RedisSink(server.url)
    assert sink.write(batch_of(make_events(5))) is None
    assert server.run("XLEN", "streamll_events") == 5
    sink.close()


def test_no_rights_at_all_is_permanent(start_redis):
    """A user that may not append opens the circuit at once."""
    server = start_redis(user="app on >pw ~* +ping")
    with pytest.raises(PermanentError, match="NOPERM"):
        RedisSink(f"redis://app:pw@127.0.0.1:{server.port}").write(batch_of(make_events(1)))


MARK = "".join(["CAN", "ARY"])  # a traceback quotes this file
RIGHT, WRONG = f"{MARK}-right", f"{MARK}-wrong"


def wrong_type(server):
    server.run("SET", "streamll_events", "x", password=RIGHT)


async def refusal_of(source):
    """Return what is said when the source cannot be opened."""
    try:
        await source.open()
    except DeliveryError as error:
        return [traceback.format_exc(), repr(error)]
    await source.close()
    return []


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        (WRONG, None),
        (RIGHT, wrong_type),
        (RIGHT, RedisServer.kill),
        (RIGHT, RedisServer.freeze),
        (RIGHT, lambda server: server.run("CONFIG", "SET", "maxmemory", 1, password=RIGHT)),
    ],
)
def test_neither_secrets_nor_payload_reach_logs_or_tracebacks(start_redis, caplog, password, fault):
    """S1, S2: canaries in password and payload, through failures of the sink and the source."""
    caplog.set_level(logging.DEBUG)
    server = start_redis(requirepass=RIGHT)
    url = f"redis://:{password}@127.0.0.1:{server.port}"
    sink = RedisSink(url, op_timeout=0.5)
    source = RedisSource(url, op_timeout=0.5)
    if fault is not None:
        fault(server)
    texts = [repr(sink), repr(source), repr(sink.settings), repr(source.settings)]
    with pytest.raises(DeliveryError) as caught:
        sink.write(batch_of([make_event(data={"token": MARK})]))
    texts += [*traceback.format_exception(caught.value), repr(caught.value)]
    texts += asyncio.run(refusal_of(source))
    assert MARK not in "".join(texts) + caplog.text
