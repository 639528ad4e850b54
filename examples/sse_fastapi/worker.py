"""Answers one question; its tokens go to Redis: ``python worker.py ANSWER_ID QUESTION``."""

from __future__ import annotations

import os
import sys

import dspy

import streamll
from streamll.sinks import RedisSink
from streamll.testing import ScriptedLM

STORY = (
    "The lamp was lit at dusk, and for an hour nobody spoke. Then the keeper told us of the "
    "winter when the sea took the stairs, and how they carried the oil up by rope, night after "
    "night, so that no ship would miss the light."
)


def model() -> dspy.BaseLM:
    """Return the model named in LM, or a script that takes a few seconds."""
    name = os.environ.get("LM")
    delay = float(os.environ.get("DELAY", "0.05"))
    return dspy.LM(name) if name else ScriptedLM([{"answer": STORY}], delay=delay, chunk="word")


@streamll.instrument(stream_fields=["answer"])
class Storyteller(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tell = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.tell(question=question)


def main(answer: str, question: str) -> None:
    url = os.environ.get("REDIS_URL", "redis://localhost:6379")
    streamll.configure(sinks=[RedisSink(url, "answers")])
    with dspy.context(lm=model()), streamll.context(answer=answer):
        Storyteller()(question=question)


if __name__ == "__main__":
    main(*sys.argv[1:])
