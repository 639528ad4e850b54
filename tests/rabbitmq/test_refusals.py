"""What the broker refuses: credentials, rights, exchanges, sizes (rows 18, 20-22, 24, 25)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamll import Outcome, OutcomeUnknown, PermanentError, Verdict
from support.events import batch_of, make_event, make_events
from support.rabbitmq_probe import Probe
from support.rabbitmq_producer import Producer, patient
from support.rabbitmq_server import RabbitMQServer

pytestmark = [pytest.mark.broker, pytest.mark.anyio]

Start = Callable[..., RabbitMQServer]


@pytest.mark.parametrize(
    ("user", "vhost", "says"),
    [
        ("wrong", "", "login refused"),
        ("guest", "closed", "virtual host 'closed' does not exist or refuses this user"),
        ("guest", "absent", "virtual host 'absent' does not exist or refuses this user"),
        ("nobody", "", "no right to use exchange"),
        ("writer", "", "declare=False needs only the right to write"),
    ],
)
async def test_rows_18_and_20_what_is_refused_for_good_is_permanent(
    broker: RabbitMQServer, exchange: str, user: str, vhost: str, says: str
) -> None:
    """It names virtual host and exchange, and neither user nor password."""
    url = broker.url("guest" if user == "wrong" else user, vhost=vhost)
    sink = patient(url, exchange=exchange, password="CANARY" if user == "wrong" else None)
    with pytest.raises(PermanentError, match=says) as raised:
        await sink.write(batch_of(make_events(1)))
    assert str(broker.port) in str(raised.value)
    assert "CANARY" not in str(raised.value)
    assert f"'{user}'" not in str(raised.value)
    await sink.close()


async def test_row_20_no_right_to_write_is_permanent(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The broker says so only at the first publish."""
    queue = await probe.bind(exchange)
    sink = patient(broker.url("nobody"), exchange=exchange, declare=False)
    with pytest.raises(PermanentError, match="no right to use exchange"):
        await sink.write(batch_of(make_events(100)))
    assert await probe.count(queue) == 0
    await sink.close()


async def test_row_21_an_exchange_of_another_type_is_permanent(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """The message says which argument differs."""
    await probe.exchange(exchange, "direct")
    sink = patient(broker.url(), exchange=exchange)
    with pytest.raises(PermanentError, match=r"received 'topic' but current is 'direct'"):
        await sink.open()
    await sink.close()


async def test_an_exchange_that_is_not_there_is_permanent_when_it_must_not_be_created(
    broker: RabbitMQServer, exchange: str
) -> None:
    """`declare=False`."""
    sink = patient(broker.url(), exchange=exchange, declare=False)
    with pytest.raises(PermanentError, match=f"there is no exchange '{exchange}'"):
        await sink.open()
    await sink.close()


async def test_row_22_an_exchange_deleted_at_run_time_is_declared_again(
    broker: RabbitMQServer, probe: Probe, exchange: str
) -> None:
    """One failed attempt, then the exchange is back; nothing is confirmed in between."""
    await probe.bind(exchange)
    sink = patient(broker.url(), exchange=exchange, mandatory=False)
    assert await sink.write(batch_of(make_events(10))) is None
    await probe.channel.exchange_delete(exchange)
    events = make_events(10)
    with pytest.raises(OutcomeUnknown, match="closed the channel: ChannelNotFoundEntity 404"):
        await sink.write(batch_of(events))
    assert await sink.write(batch_of(events)) is None
    await probe.channel.get_exchange(exchange, ensure=True)
    await sink.close()


async def test_row_24_the_same_event_twice_on_its_way_is_never_confirmed_falsely(
    broker: RabbitMQServer, exchange: str
) -> None:
    """Unroutable copies of one id: not one of them is delivered."""
    sink = patient(broker.url(), exchange=exchange)
    event = make_event()
    report = await sink.write(batch_of([event] * 4))
    assert set(report) == {0, 1, 2, 3}
    assert set(report.values()) == {Verdict(Outcome.REJECTED_PERMANENT, "unroutable")}
    await sink.close()


async def test_row_25_a_broker_with_a_lower_limit_teaches_it(start_broker: Start) -> None:
    """It closes the channel once; from then on the large event costs only itself."""
    broker = start_broker("max_message_size = 5000")
    async with Probe.connected(broker.url()) as probe:
        queue = await probe.bind("streamll")
        producer = Producer(patient(broker.url()))
        small = make_events(20)
        large = make_event(data={"x": "y" * 9000})
        batch = [*small[:10], large, *small[10:]]
        report = await producer.sink.write(batch_of(batch))
        assert report[10] == Verdict(Outcome.REJECTED_PERMANENT, "oversize")
        assert {v.outcome for i, v in report.items() if i != 10} <= {Outcome.UNKNOWN}
        report = await producer.sink.write(batch_of([large, *make_events(3)]))
        assert report == {0: Verdict(Outcome.REJECTED_PERMANENT, "oversize")}
        await producer.deliver(small)
        assert {body for body in await probe.bodies(queue) if len(body) > 5000} == set()
        await producer.sink.close()
