"""However a text is cut into tokens, what comes out is the scrubbed whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.privacy.samples import SECRETS, cuts, texts
from core.privacy.test_patterns import whole
from streamll.privacy import PATTERNS, Scrubber
from streamll.privacy.stream import HOLD, WITHHELD

EMPLOYEE = re.compile(r"\bEMP-\d{3,6}\b")
BEHIND = re.compile(r"(?<=key )abc")
AHEAD = re.compile(r"7(?=.{0,9}<a>)")
ENDLESS = re.compile(r"<.*>", re.DOTALL)
ALL = [*PATTERNS, EMPLOYEE, BEHIND, AHEAD, ENDLESS, str.upper]


def fail(error):
    """An error handler for streams that must not fail."""
    raise AssertionError from error


def streamed(wanted, pieces):
    """What a stream of *pieces* comes out as, piece by piece."""
    stream = Scrubber.of(wanted).stream(fail)
    return [*map(stream.feed, pieces), stream.finish()]


@given(st.data(), texts)
@settings(max_examples=300, deadline=None)
def test_any_cut_of_any_text_joins_to_the_scrubbed_whole(data, text):
    """The pack, for random texts and random cuts."""
    pieces = data.draw(cuts(text))
    assert "".join(streamed(list(PATTERNS), pieces)) == whole(list(PATTERNS), text)


OWN = [
    "EMP-12345",
    "EMP-1",
    "EMP",
    "-",
    "key abc",
    "key ",
    "<a>",
    "<",
    ">",
    " ",
    "\n",
    "7",
    "b@x.de",
]
own_texts = st.lists(st.sampled_from(OWN), max_size=8).map("".join)


@given(st.data(), own_texts)
@settings(max_examples=300, deadline=None)
def test_own_expressions_and_functions_are_exact_too(data, text):
    """A bounded expression, look-behind, look-ahead, an endless one, and a function."""
    pieces = data.draw(cuts(text))
    for wanted in (["email", EMPLOYEE], [BEHIND], [AHEAD], [ENDLESS], ALL):
        assert "".join(streamed(wanted, pieces)) == whole(wanted, text)


@pytest.mark.parametrize("secret", [s for name in SECRETS for s in SECRETS[name]])
@pytest.mark.parametrize("end", [", ok", "\n", ""])
def test_no_prefix_of_what_was_emitted_ever_holds_part_of_a_secret(secret, end):
    """For every pair of cuts: at no time has a beginning of the secret been sent."""
    text = f"it is {secret}{end}"
    expected = whole(list(PATTERNS), text)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            sent = streamed(list(PATTERNS), [text[:first], text[first:second], text[second:]])
            assert "".join(sent) == expected
            assert all(expected.startswith("".join(sent[:n])) for n in range(len(sent)))


def test_ordinary_text_is_held_for_about_a_word():
    """Tokens keep flowing: at each blank everything before it is out."""
    stream = Scrubber.of(True).stream(fail)
    sent = ""
    for word in ["The ", "answer ", "is ", "forty-two, ", "as ", "computed. "]:
        sent += stream.feed(word)
        assert sent.endswith(word)


def test_an_own_expression_holds_as_much_as_it_can_match():
    """`EMP-\\d{3,6}` needs ten characters, and two for what `$` may look at."""
    stream = Scrubber.of([re.compile(r"EMP-\d{3,6}")]).stream(fail)
    assert stream.feed("x" * 100) == "x" * 88


def test_a_function_gets_the_whole_text_once():
    """Nothing is known of how far it looks."""
    seen = []
    stream = Scrubber.of([lambda text: seen.append(text) or text]).stream(fail)
    assert stream.feed("a") == stream.feed("b") == ""
    assert stream.finish() == "ab"
    assert seen == ["ab"]


def test_more_than_can_be_held_is_withheld_and_never_sent():
    """Memory is bounded, and the bound fails closed."""
    stream = Scrubber.of([str.upper]).stream(fail)
    assert stream.feed("x" * HOLD) == ""
    assert stream.feed("secret") == WITHHELD
    assert stream.redacted
    assert stream.feed("secret") == stream.finish() == ""


def test_a_function_that_raises_loses_the_text_and_reports():
    """Fails closed, and does not raise into the LM call."""
    errors = []
    stream = Scrubber.of(["email", lambda text: 1 / 0]).stream(errors.append)
    assert stream.feed("secret") == stream.finish() == ""
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_a_stream_says_which_of_its_answers_lacks_something():
    """`redacted` is of the last answer only."""
    stream = Scrubber.of(True).stream(fail)
    told = [(stream.feed(piece), stream.redacted) for piece in ("bob@x.de ", "hi ")]
    assert told == [("[email] ", True), ("hi ", False)]
