"""Lines of the terminal as a picture. Pure."""

from __future__ import annotations

import io

__all__ = ["svg"]

#: Columns of the picture; longer lines are cut at the edge.
_WIDTH = 110


def svg(lines: str, title: str) -> str:
    """Return *lines*, coloured with ANSI sequences, as an SVG document of a terminal window."""
    from rich.console import Console  # noqa: PLC0415 - only the picture needs it
    from rich.text import Text  # noqa: PLC0415

    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(lines), no_wrap=True, overflow="ellipsis", highlight=False)
    return console.export_svg(title=title)
