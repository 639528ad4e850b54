"""What an error means: by exact type and code, permanent before transient, no text."""

from __future__ import annotations

import pytest
import redis.exceptions as client

from streamll import PermanentError, TransientError
from streamll_redis._errors import Refusal, of_connecting, of_exchange


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (client.AuthenticationError("x"), PermanentError),
        (client.NoPermissionError("x"), PermanentError),
        (client.ResponseError("DB index is out of range"), PermanentError),
        (client.ConnectionError("x"), TransientError),
        (client.BusyLoadingError("x"), TransientError),
        (client.MaxConnectionsError("x"), TransientError),
        (client.TimeoutError("x"), TransientError),
        (TimeoutError(), TransientError),
    ],
)
def test_connecting_fails_for_good_or_for_now(error: Exception, kind: type):
    """A wrong password is a ConnectionError in redis-py, and yet permanent."""
    assert type(of_connecting(error, "h:1")) is kind


@pytest.mark.parametrize(
    ("text", "code", "permanent"),
    [
        ("WRONGTYPE Operation against a key", "WRONGTYPE", True),
        ("NOPERM this user has no permissions", "NOPERM", True),
        ("NOAUTH Authentication required.", "NOAUTH", True),
        ("ERR unknown command 'EVALSHA'", "ERR", True),
        ("OOM command not allowed", "OOM", False),
        ("LOADING Redis is loading the dataset", "LOADING", False),
        ("READONLY You can't write against a read only replica.", "READONLY", False),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", False),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", False),
        ("MISCONF Redis is configured to save", "MISCONF", False),
        ("BUSY Redis is busy running a script", "BUSY", False),
        ("SOMETHING new", "SOMETHING", False),
        (
            "ERR Error running script (call to f_0): @user_script:9: WRONGTYPE Operation against",
            "WRONGTYPE",
            True,
        ),
    ],
)
def test_error_replies_are_known_by_their_code(text: str, code: str, permanent: bool):
    """Including the way Redis 6 wraps an error inside a script."""
    refusal = Refusal.parse(text)
    assert (refusal.code, refusal.is_permanent) == (code, permanent)


def test_a_refused_login_says_what_to_check():
    """The server's own words are not repeated: they may name the user."""
    said = str(of_connecting(client.AuthenticationError("for user bob"), "host:1"))
    assert said.endswith("AuthenticationError (check username and password)")


def test_messages_name_types_and_codes_only():
    """S2: the text of a client's error may quote a command, and a command holds payload."""
    error = client.ConnectionError("XADD SECRET-PROMPT")
    error.__cause__ = OSError("SECRET-PROMPT")
    refusal = Refusal.parse("WRONGTYPE SECRET-PROMPT")
    texts = [str(of_connecting(error, "h:1")), str(of_exchange(error, "h:1"))]
    texts.append(str(refusal.as_error("h:1")))
    assert not [text for text in texts if "SECRET" in text]
    assert "ConnectionError/OSError" in texts[0]
