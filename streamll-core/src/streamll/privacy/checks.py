"""Is it one? What a pattern found, measured: how many of its characters are the secret.

0 means: not one after all.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["bank_account", "card_number", "has_digit", "ip_address", "phone_number"]

#: Digits of the shortest number that can be dialled from abroad.
_PHONE_DIGITS: Final = 7

#: Length by country code, from the IBAN registry of ISO 13616.
_IBAN_LENGTHS: Final = {
    country: int(length)
    for length, countries in (
        line.split(":")
        for line in (
            "15:NO", "16:BE", "18:DK FI FK FO GL NL SD", "19:MK SI",
            "20:AT BA EE KZ LT LU MN XK", "21:CH HR LI LV",
            "22:BG BH CR DE GB GE IE ME RS VA", "23:AE GI IL IQ OM SO TL",
            "24:AD CZ ES MD PK RO SA SE SK TN VG", "25:LY PT ST", "26:IS TR",
            "27:BI DJ FR GR IT MC MR SM", "28:AL AZ BY CY DO GT HN HU LB NI PL SV",
            "29:BR EG PS QA UA", "30:JO KW MU YE", "31:MT SC", "32:LC", "33:RU",
        )
    )
    for country in countries.split()
}  # fmt: skip


def has_digit(text: str) -> int:
    """Accept what has a digit: random keys do, words with hyphens do not."""
    return len(text) if any(character.isdigit() for character in text) else 0


def card_number(text: str) -> int:
    """Accept what passes the Luhn check (ISO/IEC 7812-1)."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return len(text) if (sum(digits[::2]) + sum(doubled)) % 10 == 0 else 0


def bank_account(text: str) -> int:
    """Accept the IBAN (ISO 13616) that *text* begins with; what follows it is not part of it."""
    wanted = _IBAN_LENGTHS.get(text[:2], 0)
    places = [n for n, character in enumerate(text) if character != " "][:wanted]
    if not wanted or len(places) < wanted:
        return 0
    return places[-1] + 1 if _mod_97("".join(text[n] for n in places)) else 0


def _mod_97(account: str) -> bool:
    rearranged = account[4:] + account[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


def ip_address(text: str) -> int:
    """Accept what is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return 0
    return len(text)


def phone_number(text: str) -> int:
    """Accept what has digits enough for an international number (ITU-T E.164)."""
    return len(text) if sum(map(str.isdigit, text)) >= _PHONE_DIGITS else 0
