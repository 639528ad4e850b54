"""What a secret looks like: the pattern pack.

A shape is a regular expression of the simplest kind: characters and classes in a row, each
with a bounded count. So every match has a greatest length, and from one definition follow
both the expression for a whole secret and the one for the beginning of a secret at the end
of a text, which a stream must hold back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Final

import attrs

from streamll.privacy import checks

__all__ = ["CREDENTIALS", "DEFAULT", "PATTERNS", "Pattern"]

_PART: Final = re.compile(r"(\[[^\]]+\]|\\.|.)(?:\{(\d+)(?:,(\d+))?\})?")


@attrs.frozen
class Pattern:
    """One kind of secret.

    Attributes:
        name: what users call it.
        shapes: what it may look like, each a row of `class{least,most}`.
        behind: what must stand before it, a look-behind of at most `CONTEXT` characters.
        ahead: what must follow it, a look-ahead of one character.
        measure: text of a match -> how many characters are the secret; 0 for none.
        label: what takes its place.
    """

    name: str
    shapes: tuple[str, ...]
    behind: str = r"(?<![A-Za-z0-9])"
    ahead: str = ""
    measure: Callable[[str], int] = len
    label: str = attrs.field(
        default=attrs.Factory(lambda pattern: f"[{pattern.name}]", takes_self=True)
    )

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.behind + self.whole)

    @property
    def whole(self) -> str:
        """The expression for a whole secret, without what stands before it."""
        return f"(?:{'|'.join(self.shapes)}){self.ahead}"

    @property
    def beginning(self) -> str:
        """The expression for any beginning of one, up to all of it, at the end of a text."""
        return "|".join(map(_beginning, self.shapes))

    @property
    def firsts(self) -> list[str]:
        """What the shapes may begin with."""
        return [_PART.findall(shape)[0][0] for shape in self.shapes]

    def length_at(self, text: str, position: int) -> int:
        """Return the length of the secret that starts at *position*; 0 for none."""
        match = self._compiled.match(text, position)
        return self.measure(match[0]) if match else 0


def _beginning(shape: str) -> str:
    """Return an expression that matches what is a prefix of *shape* and ends the text."""
    expression = ""
    for item, least, most in reversed(_PART.findall(shape)):
        high = most or least or "1"
        rest = f"|{item}{{{least or '1'},{high}}}{expression}" if expression else ""
        expression = rf"(?:{item}{{0,{high}}}\Z{rest})"
    return expression


#: ``user:password@`` in front of a host: always masked, whatever else is scrubbed.
CREDENTIALS: Final = Pattern(
    "credentials", (r'[^\s/?#"<>]{1,512}@',), behind=r"(?<=://)", label="[credentials]@"
)

_KEY_SHAPES: Final = (
    r"sk-[A-Za-z0-9_-]{20,250}",  # OpenAI, Anthropic, OpenRouter, ...
    r"[sr]k_live_[A-Za-z0-9]{16,250}",  # Stripe
    r"[sr]k_test_[A-Za-z0-9]{16,250}",
    r"gh[pousr]_[A-Za-z0-9]{36,255}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_-]{20,100}",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",  # Slack
    r"hf_[A-Za-z0-9]{30,100}",  # Hugging Face
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"A[KS]IA[A-Z0-9]{16}",  # AWS
    r"[Bb]earer [A-Za-z0-9._~+/=-]{20,4096}",  # RFC 6750
)

_PACK: Final = (
    Pattern(
        "email",
        (r"[\w.%+-]{1,256}@[\w.-]{1,190}\.[^\W\d_]{2,24}",),
        behind=r"(?<![\w.%+-])",
    ),
    Pattern("jwt", (r"eyJ[\w-]{8,2048}\.eyJ[\w-]{8,8192}\.[\w-]{1,2048}",)),
    Pattern("api_key", _KEY_SHAPES, measure=checks.has_digit),
    Pattern("iban", (r"[A-Z]{2}[0-9]{2}[A-Z0-9 ]{11,42}",), measure=checks.bank_account),
    Pattern(
        "credit_card",
        (
            r"[2-6][0-9]{3}[ -]{0,1}[0-9]{4}[ -]{0,1}[0-9]{4}[ -]{0,1}[0-9]{4}",
            r"3[47][0-9]{2}[ -]{0,1}[0-9]{6}[ -]{0,1}[0-9]{5}",  # American Express
            r"3[0689][0-9]{2}[ -]{0,1}[0-9]{6}[ -]{0,1}[0-9]{4}",  # Diners Club
        ),
        # Not the fraction of a number.
        behind=r"(?<![0-9])(?<![0-9]\.)",
        ahead=r"(?![0-9])",
        measure=checks.card_number,
    ),
    Pattern(
        "phone",
        (r"\+[1-9][0-9 .()-]{5,20}[0-9]",),
        behind=r"(?<![\w+])",
        measure=checks.phone_number,
    ),
    Pattern(
        "ip",
        (
            r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}",
            r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,36}[0-9A-Fa-f]",
        ),
        behind=r"(?<![\w.:])",
        ahead=r"(?![\w:])",
        measure=checks.ip_address,
    ),
)

#: The pack by name. `phone` and `ip` must be asked for: more texts look like them.
PATTERNS: Final = {pattern.name: pattern for pattern in _PACK}
DEFAULT: Final = ("email", "jwt", "api_key", "iban", "credit_card")
