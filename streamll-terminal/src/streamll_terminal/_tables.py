"""Tables of the command line."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

import streamll
from streamll_terminal._sanitize import plain

__all__ = ["print_plugins"]

_COLORS = {"loaded": "green", "broken": "red", "denied": "yellow"}


def print_plugins() -> None:
    """Print one row per installed plugin, with the reason where one is broken.

    Raises:
        ConfigurationError: when two packages bring a plugin of one name.
    """
    table = Table("plugin", "package", "version", "status", "error", box=None, pad_edge=False)
    for plugin in streamll.plugins():
        cells = (plugin.name, plugin.distribution, plugin.version, plugin.status, plugin.error)
        # Text, because rich reads markup in plain strings.
        row = [Text(plain(cell or "")) for cell in cells]
        row[3].stylize(_COLORS.get(plugin.status, ""))
        table.add_row(*row)
    Console().print(table)
