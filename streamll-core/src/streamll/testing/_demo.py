"""The demo: a DSPy program of some depth on a scripted model, without a key or a network.

One run retrieves passages, thinks about which lighthouse is meant, sends an agent through four
steps with two tools (the first look-up fails, as the log is lost, and the agent recovers), and
writes an answer: 7 requests to the model. The script follows the question and the step that a
prompt is at, never the order of the requests, so any number of runs may overlap.
"""

from __future__ import annotations

import importlib
import random
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from streamll.testing._scripted import ScriptedLM, ScriptError, requested_fields
from streamll.testing._scripted_format import Message, last_user_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Demo", "build_demo"]

_FEET_PER_METRE: Final = 3.28084


@attrs.frozen
class _Lighthouse:
    """An invented lighthouse."""

    name: str
    metres: int
    built: int

    @property
    def feet(self) -> int:
        return round(self.metres * _FEET_PER_METRE)

    @property
    def question(self) -> str:
        return f"How tall is the {self.name} lighthouse?"

    @property
    def passage(self) -> str:
        return f"The {self.name} lighthouse was lit in {self.built}; its survey gives the height."


_LIGHTHOUSES: Final = (
    _Lighthouse("Heron Point", 46, 1871),
    _Lighthouse("Gull Rock", 31, 1854),
    _Lighthouse("Amber Cape", 52, 1902),
    _Lighthouse("Seal Island", 27, 1839),
    _Lighthouse("North Reef", 60, 1911),
    _Lighthouse("Willow Bay", 22, 1826),
    _Lighthouse("Copper Head", 38, 1888),
    _Lighthouse("Tern Harbour", 35, 1865),
)


class Demo(NamedTuple):
    """A program, the model it runs on, and the inputs of one run: `program(**inputs)`."""

    program: Any
    lm: Any
    inputs: dict[str, str]

    @property
    def questions(self) -> list[str]:
        """Eight questions for runs side by side, the one in `inputs` first."""
        rest = [house.question for house in _LIGHTHOUSES]
        rest.remove(self.inputs["question"])
        return [self.inputs["question"], *rest]


def build_demo(seed: int = 0, *, delay: float = 0.02, **options: Any) -> Demo:
    """Build the demo program and its model.

    Args:
        seed: which lighthouse `inputs` asks about.
        delay: seconds between two chunks of an answer.
        **options: passed to `ScriptedLM`.

    Raises:
        ImportError: if dspy is not installed.
    """
    # This module is part of `streamll.testing`, which loads without dspy.
    pipeline = importlib.import_module("streamll.testing._scripted_pipeline")
    house = random.Random(seed).choice(_LIGHTHOUSES)  # noqa: S311 - picks an example
    lm = ScriptedLM(_answer, **{"chunk": "phrase", "delay": delay, **options})
    return Demo(pipeline.RAGPipeline(_Archive()), lm, {"question": house.question})


class _Archive:
    """The local documents; stateless, so runs cannot disturb each other."""

    passages: Final = tuple(house.passage for house in _LIGHTHOUSES)

    def look_up(self, lighthouse: str, source: str) -> str:
        """Look a lighthouse up in the "harbour log" or the "survey"."""
        if source == "harbour log":
            raise LookupError(f"the harbour log of {lighthouse} was lost in a storm")
        return f"{_named(lighthouse).metres} metres"

    def to_feet(self, metres: float) -> int:
        """Convert metres to feet."""
        return round(metres * _FEET_PER_METRE)


def _named(text: str) -> _Lighthouse:
    """Return the lighthouse that *text* names first; in a prompt the question leads."""
    named = [(text.index(house.name), house) for house in _LIGHTHOUSES if house.name in text]
    if not named:
        raise ScriptError(f"the demo knows only {', '.join(h.name for h in _LIGHTHOUSES)}")
    return min(named, key=lambda found: found[0])[1]


def _answer(messages: Sequence[Message]) -> dict[str, Any]:
    """Answer the prompt of any step, by the last field it asks for."""
    prompt = last_user_text(messages)
    house = _named(prompt)
    wanted = requested_fields(messages)[-1]
    if wanted == "next_tool_args":
        return _next_step(house, prompt)
    return _FIELDS[wanted](house)


def _next_step(house: _Lighthouse, prompt: str) -> dict[str, Any]:
    thought, tool, args = _steps(house)[len(set(re.findall(r"observation_\d+", prompt)))]
    return {"next_thought": thought, "next_tool_name": tool, "next_tool_args": args}


def _steps(house: _Lighthouse) -> Sequence[tuple[str, str, Mapping[str, Any]]]:
    log = {"lighthouse": house.name, "source": "harbour log"}
    survey = {"lighthouse": house.name, "source": "survey"}
    return (
        ("The harbour log should know.", "look_up", log),
        ("The log is lost, so I ask the survey.", "look_up", survey),
        ("Now the same in feet.", "to_feet", {"metres": house.metres}),
        ("I have both figures.", "finish", {}),
    )


def _lighthouse(house: _Lighthouse) -> dict[str, Any]:
    return {"reasoning": f"The question names {house.name}.", "lighthouse": house.name}


def _height(house: _Lighthouse) -> dict[str, Any]:
    height = f"{house.metres} metres, {house.feet} feet"
    return {"reasoning": "The survey gives metres, the tool feet.", "height": height}


def _sentence(house: _Lighthouse) -> dict[str, Any]:
    text = f"The {house.name} lighthouse is {house.metres} metres ({house.feet} feet) tall."
    return {"answer": text}


_FIELDS: Final = {"lighthouse": _lighthouse, "height": _height, "answer": _sentence}
