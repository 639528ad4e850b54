"""Finding the one event that makes a batch fail, without blaming events for a dead sink.

Rules:

1. A batch of several events that fails by exception is tried again as it was; each further
   failure in a row halves the next one, and a success doubles it again. So a sink that fails
   now and then keeps its large batches. A batch of one that still fails has a culprit, or the
   sink is at fault.
2. An event that failed `max_attempts` times, now alone, becomes a suspect: it steps aside if
   others wait. After each success of others every suspect is tried again, alone; while others
   fail, suspects and others take turns. Where the outcome is unknown, so that the event may
   have arrived, it takes ten times as many: silence is the link's, and others that overtake
   the event would hide from the sink that it is repeated.
3. A failure is a strike if others got through since the event failed last. Two strikes
   convict a suspect: dropped as "rejected". If attempts without it fail as well, the sink is
   flaky and it takes `max_attempts` strikes.
4. If nothing gets through there are no strikes: the sink is at fault, nothing is dropped.

What this costs an innocent event is that it may arrive after its successors, as after any
retry.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamll._delivery.item import Item

__all__ = ["Isolation"]

#: Events that may stand aside at once; a sink that refuses more in a row is at fault.
_MAX_SUSPECTS: Final = 8
#: How many times as many unknown outcomes as failures it takes to suspect an event.
_SILENCE: Final = 10
#: Strikes that convict a suspect of an otherwise reliable sink.
_STRIKES: Final = 2


@attrs.define
class Isolation:
    """Batch size and suspects of one channel.

    Attributes:
        limit: how many events the next batch may hold.
    """

    batch_size: int
    max_attempts: int
    limit: int = attrs.field(init=False)
    _wins: int = 0
    _losses: int = 0
    _trials: int = 0
    _in_a_row: int = 0
    _suspects: deque[Item] = attrs.field(init=False, factory=deque)

    def __attrs_post_init__(self) -> None:
        self.limit = self.batch_size

    def __len__(self) -> int:
        return len(self._suspects)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._suspects)

    def next_suspect(self, *, others: bool) -> Item | None:
        """Return the suspect whose turn it is; *others* says whether anything else waits."""
        if self._suspects and (self._trials > 0 or not others):
            self._trials -= 1
            return self._suspects.popleft()
        return None

    def succeeded(self) -> None:
        """Learn that the sink accepted events."""
        self._wins += 1
        self._in_a_row = 0
        self._trials = len(self)
        self.limit = 1 if self._suspects else min(self.batch_size, self.limit * 2)

    def blame(self, items: Sequence[Item]) -> None:
        """Learn that *items* failed together, by exception."""
        for item in items:
            item.attempt += 1
            if item.attempt == 1:
                item.losses = self._losses
            elif self._wins > item.wins:
                item.strikes += 1
            item.wins = self._wins
        self._losses += 1

    def failed(self, items: list[Item], *, others: bool, unknown: bool = False) -> list[Item]:
        """Learn that these were no suspects; return what to put back, oldest first."""
        self._trials = 1
        self._in_a_row += 1
        self.limit = max(1, len(items) // (1 if self._in_a_row == 1 else 2))
        patience = self.max_attempts * (_SILENCE if unknown else 1)
        guiltless = len(items) > 1 or items[0].attempt < patience
        if guiltless or not others or len(self) >= _MAX_SUSPECTS:
            return items
        self._suspects.append(items[0])
        return []

    def convicts(self, item: Item) -> bool:
        """Whether *item*, which just failed alone, is to blame for it."""
        disputed = self._losses - item.losses > item.attempt
        needed = self.max_attempts if disputed else min(_STRIKES, self.max_attempts)
        return item.attempt >= self.max_attempts and item.strikes >= needed

    def outlived(self, item: Item) -> bool:
        """Learn that a sink took others of a batch but not *item*; return whether that is it."""
        item.strikes += 1
        return item.strikes >= self.max_attempts

    def readmit(self, items: Sequence[Item], *, last: bool = False) -> None:
        """Take back suspects that were tried; *last* if the trial said something about them."""
        if last:
            self._suspects.extend(items)
        else:
            self._suspects.extendleft(items)

    def discard(self, items: Iterable[Item]) -> None:
        """Forget suspects that were given up."""
        gone = {id(item) for item in items}
        self._suspects = deque(item for item in self._suspects if id(item) not in gone)
