"""The pattern pack finds what it names, and leaves alone what only looks like it."""

from __future__ import annotations

import pytest

from core.privacy.samples import INNOCENT, SECRETS
from streamll.privacy import PATTERNS, Scrubber, mask_urls

CASES = [(name, secret) for name, secrets in SECRETS.items() for secret in secrets]


def whole(wanted, text):
    """*text* scrubbed as one string."""
    for rule in Scrubber.of(wanted).rules:
        text, _, _ = rule.scan(text, 0, final=True)
    return text


@pytest.mark.parametrize(("name", "secret"), CASES)
def test_a_secret_is_replaced_by_its_pattern_name_and_nothing_else_is(name, secret):
    """Between words, quotes and at either end of the text."""
    assert whole([name], secret) == f"[{name}]"
    assert whole([name], f"see {secret}, please") == f"see [{name}], please"
    assert whole([name], f'{{"k": "{secret}"}}') == f'{{"k": "[{name}]"}}'
    assert whole([name], f"{secret}\n{secret}") == f"[{name}]\n[{name}]"


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_a_secret_stays(text):
    """Check digits, shapes and surroundings keep false positives low."""
    assert whole(list(PATTERNS), text) == text


def test_digits_in_front_of_a_card_number_do_not_hide_it():
    """A match that fails its check must not swallow the beginning of a real one."""
    assert whole(True, "2024 4111 1111 1111 1111 123") == "2024 [credit_card] 123"


def test_words_behind_an_iban_are_not_part_of_it():
    """The country's length decides where it ends."""
    assert whole(True, "DE89 3704 0044 0532 0130 00 EUR 100") == "[iban] EUR 100"


def test_true_means_the_pack_without_phone_and_ip():
    """Those two match more than personal data, so they must be asked for."""
    text = "+49 30 1234567 192.168.0.1 bob@example.com"
    assert whole(True, text) == "+49 30 1234567 192.168.0.1 [email]"


URLS = [
    ("amqp://bob:hunter2@host:5672/v", "amqp://[credentials]@host:5672/v"),
    ("redis://:p@ss@h", "redis://[credentials]@h"),
    ("https://ghp_token@github.com/x", "https://[credentials]@github.com/x"),
    ("a http://u:p@h b http://h/@p c", "a http://[credentials]@h b http://h/@p c"),
    ("http://h?next=me@home", "http://h?next=me@home"),
    ("http://h is home, me@home", "http://h is home, me@home"),
]


@pytest.mark.parametrize(("url", "masked"), URLS)
def test_only_the_credentials_of_a_url_are_masked(url, masked):
    """Host, path and query stay."""
    assert mask_urls(url) == masked


def test_a_url_cut_inside_its_password_loses_the_rest_of_the_password():
    """A size cap must not turn a password into plain text."""
    assert mask_urls("see amqp://bob:hunt", cut=True) == "see amqp://"
    assert mask_urls("see amqp://bob:hunt") == "see amqp://bob:hunt"


@pytest.mark.parametrize("text", ["a" * 50_000, "sk-" * 20_000, "4 " * 20_000, "a@" * 20_000])
def test_no_text_makes_a_pattern_run_away(text):
    """Every shape is bounded: nothing hangs (the suite's timeout would tell)."""
    assert whole(list(PATTERNS), text)
