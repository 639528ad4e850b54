"""Confirms are counted by number, returns by id, and never laid at the wrong door."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamll_rabbitmq._codec import Message
from streamll_rabbitmq._window import Answer, Window


def message(name: str, body: bytes = b"{}") -> Message:
    """Return a message with an id."""
    return Message(name.encode(), b"key", b"", body)


def attempt(window: Window, messages: list[Message]) -> list[Message]:
    """Begin an attempt and return what must go out."""
    window.begin()
    return [item for item in messages if window.admit(item)]


def sent(*names: str) -> tuple[Window, list[Message]]:
    """Return a window in which messages of these names went out."""
    window, messages = Window(), [message(name) for name in names]
    for fresh in attempt(window, messages):
        window.publish(fresh, 10)
    return window, messages


def test_one_ack_may_answer_many() -> None:
    """`multiple` covers all up to its number, and nothing beyond."""
    window, messages = sent("a", "b", "c")
    window.answered(2, multiple=True, confirmed=True)
    assert not window.is_answered
    assert window.pending == 1
    assert window.take(messages) == [Answer.CONFIRMED, Answer.CONFIRMED, Answer.PENDING]


def test_acks_may_come_in_any_order() -> None:
    """The broker promises none."""
    window, messages = sent("a", "b", "c")
    window.answered(3, multiple=False, confirmed=True)
    window.answered(1, multiple=False, confirmed=False)
    window.answered(2, multiple=True, confirmed=True)
    assert window.take(messages) == [Answer.REFUSED, Answer.CONFIRMED, Answer.CONFIRMED]
    assert (window.pending, window.pending_bytes) == (0, 0)


def test_a_returned_message_is_not_confirmed_by_its_ack() -> None:
    """Row 23: the ack that follows a return confirms nothing."""
    window, messages = sent("a", "b")
    assert window.returned(b"a")
    window.answered(2, multiple=True, confirmed=True)
    assert window.take(messages) == [Answer.RETURNED, Answer.CONFIRMED]


def test_a_return_nobody_published_is_noticed() -> None:
    """Then the channel cannot be trusted."""
    window, _ = sent("a")
    assert not window.returned(b"z")
    window.answered(1, multiple=False, confirmed=True)
    assert not window.returned(b"a")


def test_an_event_that_comes_again_is_not_sent_twice() -> None:
    """A late confirm settles it, whenever it comes."""
    window, messages = sent("a", "b")
    assert window.take(messages) == [Answer.PENDING, Answer.PENDING]
    assert attempt(window, messages) == []
    assert not window.is_answered
    window.answered(2, multiple=True, confirmed=True)
    assert window.is_answered
    assert window.take(messages) == [Answer.CONFIRMED, Answer.CONFIRMED]
    assert attempt(window, messages) == messages


def test_a_confirm_between_attempts_is_kept() -> None:
    """The next attempt finds it and sends nothing."""
    window, messages = sent("a")
    window.take(messages)
    window.answered(1, multiple=False, confirmed=True)
    assert attempt(window, messages) == []
    assert window.is_answered
    assert window.take(messages) == [Answer.CONFIRMED]


def test_one_id_with_two_bodies_is_never_on_its_way_twice() -> None:
    """Row 24: a return names only the id, so the second has to wait for its own attempt."""
    window, (one, other) = Window(), (message("a", b"1"), message("a", b"2"))
    window.begin()
    assert window.admit(one)
    window.publish(one, 10)
    assert not window.admit(other)
    window.answered(1, multiple=False, confirmed=True)
    assert not window.admit(other)
    assert window.take([one, other]) == [Answer.CONFIRMED, None]
    assert attempt(window, [other]) == [other]


def test_an_answer_nobody_came_back_for_gives_way_to_another_body() -> None:
    """The event it was for was given up in the meantime."""
    window, _ = sent("a")
    window.answered(1, multiple=False, confirmed=True)
    assert attempt(window, [message("a", b"other")]) == [message("a", b"other")]


def test_the_same_event_twice_in_a_batch_shares_one_publish() -> None:
    """It is one event, so it has one outcome."""
    window, twice = sent("a")[0], [message("a"), message("a")]
    assert not window.admit(twice[1])
    window.answered(1, multiple=False, confirmed=True)
    assert window.take(twice) == [Answer.CONFIRMED] * 2


def test_late_answers_are_bounded() -> None:
    """S17: events that never come again do not fill the memory."""
    window = Window()
    for number in range(21_000):
        name = str(number)
        window.begin()
        window.publish(message(name), 1)
        window.answered(number + 1, multiple=False, confirmed=True)
    assert len(window._by_id) <= 20_001


def test_room_is_counted_in_events_and_bytes() -> None:
    """An empty window takes anything, so that one large event is not stuck."""
    window, _ = sent("a", "b")
    assert window.has_room(1, 3, 100)
    assert not window.has_room(2, 3, 100)
    assert not window.has_room(1, 3, 20)
    assert Window().has_room(9, 3, 0)


class WindowMachine(RuleBasedStateMachine):
    """A broker that answers honestly but in any order, and attempts that give up at any time."""

    @initialize()
    def begin(self) -> None:
        """Nothing was published."""
        self.window = Window()
        self.truth: dict[int, tuple[str, Answer | None]] = {}
        self.copies: dict[str, int] = {}
        self.told: dict[str, Answer] = {}
        self.unroutable: set[str] = set()

    @rule(names=st.lists(st.sampled_from("abcdefgh"), max_size=6), lose=st.booleans())
    def attempt(self, names: list[str], lose: bool) -> None:
        """Publish what has no final answer yet, and take the answers there are."""
        batch = [message(name) for name in names if self.told.get(name) is None]
        self.window.begin()
        for fresh in batch:
            name = fresh.message_id.decode()
            if not self.window.admit(fresh):
                continue
            self.window.publish(fresh, 10)
            self.truth[len(self.truth) + 1] = (name, None)
            self.copies[name] = self.copies.get(name, 0) + 1
            if lose:
                self.unroutable.add(name)
                self.window.returned(fresh.message_id)
        for item, answer in zip(batch, self.window.take(batch), strict=True):
            if answer not in (None, Answer.PENDING):
                self.told[item.message_id.decode()] = answer

    @rule(pick=st.integers(0, 50), multiple=st.booleans())
    def answer(self, pick: int, multiple: bool) -> None:
        """Acknowledge one publish, or all up to it."""
        if self.truth:
            tag = pick % len(self.truth) + 1
            self.window.answered(tag, multiple=multiple, confirmed=True)
            for known in range(1 if multiple else tag, tag + 1):
                self.truth[known] = (self.truth[known][0], Answer.CONFIRMED)

    @invariant()
    def nothing_is_confirmed_that_was_not(self) -> None:
        """False-confirmed is 0, unroutable is never confirmed, nothing is published twice."""
        if not hasattr(self, "truth"):
            return
        acked = {name for name, answer in self.truth.values() if answer is not None}
        for name, answer in self.told.items():
            assert name in acked
            assert (answer is Answer.RETURNED) == (name in self.unroutable)
        assert all(count == 1 for count in self.copies.values())
        open_tags = sum(answer is None for _, answer in self.truth.values())
        assert self.window.pending == open_tags
        assert self.window.pending_bytes == 10 * open_tags


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
