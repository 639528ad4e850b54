"""Side by side, in one run: every subject takes its turn in every round.

A machine drifts (other load, clock speed, caches). So subjects are not measured one after the
other but interleaved, in an order that rotates, and compared round by round: a ratio is the
median of the rounds' ratios, not the ratio of two medians.
"""

from __future__ import annotations

import statistics
from operator import sub, truediv
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Samples", "interleave", "paired"]

T = TypeVar("T")


@attrs.frozen
class Samples:
    """One figure of one subject, once per round, in the order of the rounds."""

    values: Sequence[float]

    @property
    def n(self) -> int:
        """How many rounds."""
        return len(self.values)

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile: half of the rounds lie between them."""
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def minus(self, other: Samples) -> Samples:
        """Return the differences, round by round."""
        return paired(sub, self, other)

    def over(self, other: Samples) -> Samples:
        """Return the ratios, round by round; NaN where *other* is not above 0."""
        return paired(lambda a, b: truediv(a, b) if b > 0 else float("nan"), self, other)


def paired(combine: Callable[[float, float], float], left: Samples, right: Samples) -> Samples:
    """Combine the figures that two subjects had in the same rounds."""
    return Samples([combine(a, b) for a, b in zip(left.values, right.values, strict=True)])


def interleave(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call every subject once per round, after one round that does not count."""
    names = list(subjects)
    results: dict[str, list[T]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            result = subjects[name]()
            if turn >= 0:
                results[name].append(result)
    return results
