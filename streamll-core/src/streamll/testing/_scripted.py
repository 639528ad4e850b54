"""`ScriptedLM`: a DSPy language model that plays a script, without a key or a network."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final

from streamll.errors import ConfigurationError
from streamll.settings import reject_unknown
from streamll.testing._scripted_answer import ScriptedAnswer, ScriptedUsage, to_usage
from streamll.testing._scripted_chunks import Chunk, check_chunk
from streamll.testing._scripted_format import requested_fields
from streamll.testing._scripted_script import (
    Answers,
    Script,
    ScriptedCall,
    ScriptError,
    to_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamll.testing._scripted_engine import ScriptedLM as _ScriptedLM

__all__ = [
    "ScriptError",
    "ScriptedAnswer",
    "ScriptedCall",
    "ScriptedLM",
    "ScriptedUsage",
    "requested_fields",
]

_PREFIX: Final = "scripted/"
_ABILITIES: Final = ("function_calling", "reasoning", "response_schema")


def ScriptedLM(  # noqa: N802 - it stands for a class that cannot exist before dspy is imported
    answers: Answers,
    *,
    cycle: bool = False,
    model: str = "scripted/model",
    chunk: Chunk = "word",
    delay: float = 0.0,
    usage: Mapping[str, int] | ScriptedUsage | None = None,
    supports: Iterable[str] = ("function_calling",),
    cache: bool = False,
    num_retries: int = 0,
    **kwargs: Any,
) -> _ScriptedLM:
    """Make a `dspy.LM` that answers from a script, streaming as a provider would.

    The LM runs DSPy's own code for cache, retries, candidates, usage, history and streaming,
    on every dspy from 3.0; only the provider is scripted. Its `calls` are the requests that
    reached the model, as a tuple of `ScriptedCall`. Safe to use from many threads and tasks.
    Copies, deep copies and the original play one script and share `calls`; an unpickled LM goes
    on where the pickled one stood, with an empty record. Importing this module does not import
    dspy; calling this function does.

    Args:
        answers: a list, used in the order of the requests; or a mapping of regular expressions
            to answers, of which the first that is found in the last user message is used; or
            a function of the messages (a list of `{"role", "content"}` mappings) that returns
            an answer and may be called from several threads. An answer is a str (the raw
            completion), a dict of output fields (rendered for the adapter in use), an exception
            (raised by the provider, so DSPy wraps it as it would a real failure) or a
            `ScriptedAnswer`.
        cycle: start the list again when it is used up, which is otherwise a `ScriptError`.
        model: the name the LM goes by; begins with "scripted/".
        chunk: how texts are cut: "word" ("The", " answer", " is"), "phrase" (up to three words
            of a line: "The answer is", " 42"), a number of characters, or a function that
            cuts a text into parts which make up the text again.
        delay: seconds before each chunk. A call that does not stream takes as long in all.
        usage: the tokens every call reports, by the names of `ScriptedUsage`. What is left open
            is counted, one token per word: the prompt is input; reasoning, text and tool calls
            are output. None counts all. `{}` reports none (before dspy 3.4 LiteLLM then writes
            figures of its own).
        supports: what the model can do natively, as adapters ask: "function_calling",
            "reasoning", "response_schema".
        cache: use DSPy's cache, which is shared by all LMs of one model name.
        num_retries: how often DSPy tries a failed call again. Each try takes an answer.
        **kwargs: passed to `dspy.LM`, e.g. `temperature` or `callbacks`.

    Raises:
        ConfigurationError: for an option that cannot be used.
    """
    if not model.startswith(_PREFIX):
        raise ConfigurationError(f"model must begin with {_PREFIX!r}, not {model!r}")
    abilities = frozenset(supports)
    reject_unknown(abilities, _ABILITIES, "ability")
    backend = _backend()
    script = Script(
        source=to_source(answers, cycle=cycle),
        chunk=check_chunk(chunk),
        delay=delay,
        usage=to_usage(usage),
        escape_xml=backend.ESCAPE_XML,
    )
    options = {"cache": cache, "num_retries": num_retries, **kwargs}
    return backend.make_lm(script, model, abilities, **options)  # type: ignore[no-any-return]


def _backend() -> Any:
    """Return the module that puts a script behind the installed version of DSPy."""
    engines = importlib.util.find_spec("dspy.clients.engines") is not None
    name = "_scripted_engine" if engines else "_scripted_litellm"
    return importlib.import_module(f"streamll.testing.{name}")
