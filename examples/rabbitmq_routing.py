"""Route the events of a DSPy program to audit, monitoring and alerts queues of RabbitMQ.

    docker run -p 5672:5672 rabbitmq
    python examples/rabbitmq_routing.py [amqp://localhost:5672/]

Starts go to an audit queue, tokens to a monitoring queue that forgets, errors to an alerts
queue. Alerts that cannot be handled are retried and end up in a dead-letter queue. The model is
scripted, so no key is needed.
"""

from __future__ import annotations

import asyncio
import sys

import dspy

import streamll
from streamll.sinks import RabbitMQSink
from streamll.testing import ScriptedAnswer, ScriptedLM
from streamll_rabbitmq import RabbitMQQueue, RabbitMQTopology

EXCHANGE = "ai_events"

TOPOLOGY = RabbitMQTopology([
    RabbitMQQueue("audit_queue", "ai.*.start", type="quorum"),
    RabbitMQQueue("monitoring_queue", "ai.*.token", message_ttl=60, max_length=10_000),
    RabbitMQQueue("alerts_queue", "ai.*.error", type="quorum", dead_letter="alerts_queue.dead"),
    RabbitMQQueue("alerts_queue.dead", type="quorum"),
])  # fmt: skip


@streamll.instrument
class RAGPipeline(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.llm = ScriptedLM([ScriptedAnswer(text="The answer is 42"), RuntimeError("down")])

    def forward(self, question: str) -> list[str]:
        return self.llm(question)


def produce(url: str) -> None:
    """Answer one question, and fail at another."""
    sink = RabbitMQSink(
        amqp_url=url,
        exchange=EXCHANGE,
        routing_key="ai.{module_name}.{event_type}",
        mandatory=False,  # nobody asked for "end" events: they are no loss
        topology=TOPOLOGY,
    )
    with streamll.configure(sinks=[sink]):
        program = RAGPipeline()
        program("What is six times seven?")
        try:
            program("And why?")
        except Exception as error:
            print(f"the program failed: {type(error).__name__}")


async def show(url: str, queue: str) -> None:
    """Print what waits in a queue."""
    try:
        async with asyncio.timeout(2), streamll.consume(url, queue=queue) as events:
            async for event in events:
                token = event.data.get("token", "")
                print(f"{queue}: {event.operation} {event.event_type} {token}")
    except TimeoutError:
        pass


async def handle_alerts(url: str) -> None:
    """Page somebody; what fails three times goes to `alerts_queue.dead`."""
    consumer = streamll.EventConsumer(url, queue="alerts_queue", retries=2, retry_delay=0.5)

    @consumer.on("error")
    async def page(event: streamll.Event) -> None:
        print(f"alerts_queue: paging about {event.operation}")
        if event.operation == "llm_call":
            raise ConnectionError("the pager does not answer")

    async def stop_soon() -> None:
        await asyncio.sleep(4)
        consumer.stop()

    await asyncio.gather(consumer.run(), stop_soon())


async def main(url: str) -> None:
    print(TOPOLOGY)
    await asyncio.to_thread(produce, url)
    await show(url, "audit_queue")
    await show(url, "monitoring_queue")
    await handle_alerts(url)
    await show(url, "alerts_queue.dead")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "amqp://localhost:5672/"))
