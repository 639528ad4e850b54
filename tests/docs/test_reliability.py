"""The fault matrix names tests that exist."""

from __future__ import annotations

import re

import pytest

from support.snippets import ROOT

ROWS = [
    line
    for line in (ROOT / "docs/reliability.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "::" in line
]
NAMED = re.compile(r"`([\w/]+\.py)?::(\w+)`")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_test_in_the_fault_matrix_exists(row):
    """Each name is a function or class of the file it is said to be in."""
    file = ""
    for path, name in NAMED.findall(row):
        file = path or file
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?(?:def|class) {name}\b", source, re.MULTILINE), name


def test_rows_1_to_53_are_complete():
    """No row is missing."""
    numbers = [int(row.split("|")[1]) for row in ROWS if row.split("|")[1].strip().isdigit()]
    assert numbers == list(range(1, 54))
