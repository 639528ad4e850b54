"""The DSPy program of the demo: retrieval, a nested agent with tools, a final answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import dspy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RAGPipeline", "Research", "Retriever"]


class Archive(Protocol):
    """What the program can look things up in."""

    passages: Sequence[str]

    def look_up(self, lighthouse: str, source: str) -> str:
        """Return what *source* says about *lighthouse*, or raise LookupError."""

    def to_feet(self, metres: float) -> int:
        """Convert metres to feet."""


class Retriever(dspy.Module):  # type: ignore[misc]  # dspy is untyped
    """Finds the passages that share most words with the query; holds them in memory."""

    def __init__(self, passages: Sequence[str], k: int = 3) -> None:
        super().__init__()
        self.passages = tuple(passages)
        self.k = k

    def forward(self, query: str) -> dspy.Prediction:
        return dspy.Prediction(passages=self._nearest(query))

    async def aforward(self, query: str) -> dspy.Prediction:
        return dspy.Prediction(passages=self._nearest(query))

    def _nearest(self, query: str) -> list[str]:
        wanted = _words(query)
        ranked = sorted(self.passages, key=lambda text: -len(wanted & _words(text)))
        return ranked[: self.k]


class Research(dspy.Module):  # type: ignore[misc]
    """Decides which lighthouse is meant, then lets an agent find its height."""

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self.locate = dspy.ChainOfThought("question, passages: list[str] -> lighthouse")
        self.measure = dspy.ReAct(
            "question, lighthouse -> height",
            tools=[archive.look_up, archive.to_feet],
            max_iters=5,
        )

    def forward(self, question: str, passages: list[str]) -> dspy.Prediction:
        found = self.locate(question=question, passages=passages)
        return self.measure(question=question, lighthouse=found.lighthouse)

    async def aforward(self, question: str, passages: list[str]) -> dspy.Prediction:
        found = await self.locate.acall(question=question, passages=passages)
        return await self.measure.acall(question=question, lighthouse=found.lighthouse)


class RAGPipeline(dspy.Module):  # type: ignore[misc]
    """Answers a question about a lighthouse: retrieve, research, answer."""

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self.retrieve = Retriever(archive.passages)
        self.research = Research(archive)
        self.answer = dspy.Predict("question, height -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        context = self.retrieve(query=question)
        found = self.research(question=question, passages=context.passages)
        return self.answer(question=question, height=found.height)

    async def aforward(self, question: str) -> dspy.Prediction:
        context = await self.retrieve.acall(query=question)
        found = await self.research.acall(question=question, passages=context.passages)
        return await self.answer.acall(question=question, height=found.height)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
