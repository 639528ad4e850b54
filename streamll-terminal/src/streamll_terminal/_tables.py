"""Tables of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamll_terminal._sanitize import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamll import Plugin

__all__ = ["print_plugins"]

_COLORS = {"loaded": "green", "broken": "red", "denied": "yellow"}


def print_plugins(found: Iterable[Plugin]) -> None:
    """Print one row per plugin, with the reason where one is broken."""
    table = Table("plugin", "package", "version", "status", "error", box=None, pad_edge=False)
    for plugin in found:
        cells = (plugin.name, plugin.distribution, plugin.version, plugin.status, plugin.error)
        # Text, because rich reads markup in plain strings.
        row = [Text(plain(cell or "")) for cell in cells]
        row[3].stylize(_COLORS.get(plugin.status, ""))
        table.add_row(*row)
    Console().print(table)
