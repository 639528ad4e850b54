"""The dashboard asks for what a stream has."""

from __future__ import annotations

import json

import pytest

import streamll
from streamll_redis import RedisSink
from streamll_redis._codec import _HEAD, EACH
from support.snippets import ROOT

BOARD = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
DOCUMENT = (ROOT / "docs/grafana.md").read_text()
FLAT = {name.decode() for name in (*EACH, *_HEAD)}
#: Columns the data source makes of an entry's id.
OWN = {"$time", "$streamId"}


def columns(transformation):
    """Return the columns a transformation names."""
    options = transformation["options"]
    named = {each["fieldName"] for each in options.get("filters", ())}
    return named | set(options.get("include", {}).get("names", ())) | set(options.get("fields", ()))


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: panel["title"])
def test_every_column_of_a_panel_is_a_field_of_an_entry(panel):
    """A renamed field would leave a panel empty without a word."""
    named = set().union(*map(columns, panel["transformations"]))
    assert named <= FLAT | OWN


def test_the_document_lists_every_flat_field():
    """No more and no less, but for the body."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    cells = [line.split("|")[1].replace("`", "").split(",") for line in rows]
    assert {name.strip() for cell in cells for name in cell} == FLAT - {"event"}


@pytest.mark.broker
def test_the_queries_find_events(redis_server):
    """The commands of the panels, as the data source sends them."""
    streamll.configure(sinks=[RedisSink(redis_server.url)])
    streamll.emit("x")
    assert streamll.flush()
    streamll.shutdown()
    assert redis_server.run("XLEN", "streamll_events") == 1
    newest = redis_server.run("XREVRANGE", "streamll_events", "9999999999999-0", "0-0", "COUNT", 9)
    assert newest[0][1][b"event_type"] == b"x"
    commands = {target["command"] for panel in BOARD["panels"] for target in panel["targets"]}
    assert commands == {"xlen", "xrevrange"}
