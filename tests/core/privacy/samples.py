"""Secrets, what looks like them, and texts that mix both."""

from __future__ import annotations

from hypothesis import strategies as st

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

#: Pattern name -> texts of which nothing may remain.
SECRETS = {
    "email": ["bob@example.com", "jo.e+tag@mail.example.co.uk", "josé@exämple.de"],
    "credit_card": [
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "6011000990139424",
        "378282246310005",
        "30569309025904",
    ],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "NO93 8601 1117 947"],
    "api_key": [
        "sk-proj-a1b2c3d4e5f6a7b8c9d0e1f2",
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1B2" * 6,
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdef",
        "AIza" + "a1B2c3D" * 5,
        "sk_live_" + "a1" * 12,
        "Bearer " + "a1b2c3d4" * 4,
    ],
    "jwt": [JWT],
    "phone": ["+49 30 1234567", "+1 (555) 010-9999"],
    "ip": ["192.168.0.1", "2001:db8::8a2e:370:7334"],
}

#: What must stay as it is with every pattern on.
INNOCENT = [
    "order 1234567890123456 shipped",  # fails the Luhn check
    "ticket 41111111111111112",  # too long
    "0.4111111111111111",
    "version 3.11.7, 300.1.2.3",
    "pip install package@1.2.3",
    "https://medium.com/@author/post?mail=none",
    "risk-assessment-and-mitigation-planning",
    "sk-learn-compatible-estimators-only",
    "Bearer of responsibilitieswithoutend",
    "DE00 3704 0044 0532 0130 00",  # fails the ISO 13616 check
    "a std::vector at 12:30:45",
    "2+2=4, +12 points",
    "eyJust a word",
]

_FRAGMENTS = [
    *(secret for secrets in SECRETS.values() for secret in secrets),
    *INNOCENT,
    *(
        "://",
        "amqp://bob:hunter2@host/x",
        "http://a@",
        "@",
        ".",
        " ",
        "\n",
        "-",
        "sk-",
        "eyJ",
        "4111",
    ),
    *("Bearer ", "DE89", "+4", "x", "é", "[email]", "192.168.", "4111 1111 1111 111", "0.", "bob"),
]

#: Texts in which secrets touch each other, their halves, and arbitrary text.
texts = st.lists(st.sampled_from(_FRAGMENTS) | st.text(max_size=3), max_size=7).map("".join)


@st.composite
def cuts(draw, text):
    """Cut *text* into pieces of any size, empty ones included."""
    places = draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
