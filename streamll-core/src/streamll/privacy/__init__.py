"""Secrets and personal data leave the events before these leave the process.

    configure(scrub=True)                       the pack: email, jwt, api_key, iban, credit_card
    configure(scrub=["email", re.compile(...)]) chosen patterns, own expressions, own functions

`Scrubber` works on events, `StreamScrubber` on text that arrives in pieces. Passwords in
URLs are masked without being asked (`mask_urls`). See docs/privacy.md.
"""

from streamll.privacy.patterns import DEFAULT, PATTERNS, Pattern
from streamll.privacy.scrubber import Scrubber
from streamll.privacy.stream import StreamScrubber
from streamll.privacy.urls import mask_urls, mask_values

__all__ = [
    "DEFAULT",
    "PATTERNS",
    "Pattern",
    "Scrubber",
    "StreamScrubber",
    "mask_urls",
    "mask_values",
]
