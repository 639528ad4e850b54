"""``scheme://user:password@host`` -> ``scheme://[credentials]@host``: always, unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamll.privacy.patterns import CREDENTIALS
from streamll.privacy.rules import Pack, Rule

__all__ = ["URLS", "mask_urls", "mask_values"]

URLS: Final[Rule] = Pack((CREDENTIALS,), needle="://")


def mask_urls(text: str, *, cut: bool = False) -> str:
    """Return *text* without the credentials of its URLs.

    Args:
        text: anything.
        cut: whether *text* lost its end: a URL that may have been cut inside of its
            credentials is then left out.
    """
    if "://" not in text or not (cut or "@" in text):
        return text
    return URLS.scan(text, 0, final=not cut)[0]


def mask_values(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *fields* with the URLs in its values masked; the same mapping if there are none."""
    if not any(type(v) is str and "://" in v for v in fields.values()):
        return fields
    return {key: mask_urls(v) if isinstance(v, str) else v for key, v in fields.items()}
