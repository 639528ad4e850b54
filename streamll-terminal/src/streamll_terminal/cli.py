"""The command ``streamll``."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

import streamll

__all__ = ["app", "main"]

#: Exit code for what the user can correct, as for a wrong option.
_USAGE = 2
#: Exit code when a broker cannot be reached or refuses.
_UNUSABLE = 1
#: Exit code when the reader of our output is gone; the one rich uses.
_CLOSED_PIPE = 1

app = App(
    name="streamll",
    help="See what happens inside DSPy programs, as it happens.",
    version=f"streamll {streamll.__version__}",
    result_action="return_value",
)


@app.command
def demo(
    *,
    delay: Annotated[float, Parameter(validator=Number(gte=0))] = 0.03,
    debug: Annotated[bool, Parameter(negative=())] = False,
    svg: Path | None = None,
) -> None:
    """Run a DSPy program on a scripted model and watch it. Needs no key and no network.

    Args:
        delay: seconds between two tokens.
        debug: show adapter formatting and parsing too.
        svg: also write what was shown to this file, as a picture.
    """
    from streamll_terminal._demo import run_demo  # noqa: PLC0415 - imports DSPy, for seconds

    run_demo(delay=delay, debug=debug, picture=svg)


@app.command
def plugins() -> None:
    """List the installed plugins and whether they work."""
    from streamll_terminal._tables import print_plugins  # noqa: PLC0415 - imports rich tables

    print_plugins()


def _add_plugin_commands() -> None:
    """Add ``streamll <plugin> <command>`` for each command a plugin registered.

    Raises:
        ConfigurationError: when two packages bring a plugin of one name.
    """
    for plugin in streamll.plugins():
        if plugin.commands and plugin.name not in app:
            group = App(name=plugin.name, help=f"Commands of {plugin.distribution}.")
            for name, function in plugin.commands.items():
                group.command(function, name=name)
            app.command(group)


def main() -> None:
    """Run the command line.

    Exits with 2, after one line on stderr, for what the user can correct; with 1 when a broker
    cannot be used, or the reader of a pipe is gone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _add_plugin_commands()
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (CycloptsError, streamll.ConfigurationError) as error:
        _complain(error)
        raise SystemExit(_USAGE) from None
    except streamll.DeliveryError as error:
        _complain(error)
        raise SystemExit(_UNUSABLE) from None
    except BrokenPipeError:
        _discard_stdout()
        raise SystemExit(_CLOSED_PIPE) from None


def _complain(error: Exception) -> None:
    sys.stderr.write(f"streamll: {' '.join(str(error).split())}\n")


def _discard_stdout() -> None:
    """Let the flush at exit succeed: the reader of our output is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
