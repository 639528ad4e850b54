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
from collections import Counter

import dspy

import streamll
from streamll.sinks import RabbitMQSink
from streamll.testing import ScriptedAnswer, ScriptedLM
from streamll_rabbitmq import RabbitMQQueue, RabbitMQTopology

EXCHANGE = "ai_events"
RETRIES = 2

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


async def show(url: str, queue: str, count: int) -> None:
    """Print the next events of a queue."""
    async with streamll.consume(url, queue=queue) as events:
        for _ in range(count):
            event = await anext(events)
            token = event.data.get("token", "")
            print(f"{queue}: {event.operation} {event.event_type} {token}")


async def handle_alerts(url: str) -> None:
    """Page somebody; what fails three times goes to `alerts_queue.dead`."""
    consumer = streamll.EventConsumer(url, queue="alerts_queue", retries=RETRIES, retry_delay=0.5)
    tries: Counter[str] = Counter()

    @consumer.on("error")
    async def page(event: streamll.Event) -> None:
        print(f"alerts_queue: paging about {event.operation}")
        tries[event.operation] += 1
        if tries["llm_call"] > RETRIES:
            consumer.stop()
        if event.operation == "llm_call":
            raise ConnectionError("the pager does not answer")

    await consumer.run()


async def main(url: str) -> None:
    print(TOPOLOGY)
    await asyncio.to_thread(produce, url)
    await show(url, "audit_queue", 4)  # a module and an LM call, twice
    await show(url, "monitoring_queue", 4)
    await handle_alerts(url)
    await show(url, "alerts_queue.dead", 1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "amqp://localhost:5672/"))
