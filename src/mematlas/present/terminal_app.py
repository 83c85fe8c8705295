"""What the terminal UIs do alike: their themes, and their end when the terminal is gone."""

from __future__ import annotations

import os
import sys

from textual.app import App

from mematlas.present.theme import DARK, LIGHT

_CHECK_S = 1.0
_HUNG_UP = 129  # status that a shell shows of a program that SIGHUP ended


class TerminalApp(App[None]):
    """A full-screen program that ends with its terminal.

    Only a session that has the terminal gets SIGHUP when it closes. Any other program reads the end of its input from
    then on, again and again.
    """

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, *, dark: bool) -> None:
        """Start in the dark or the light theme."""
        super().__init__()
        self._start_dark = dark

    def on_load(self) -> None:
        """Apply the theme."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name if self._start_dark else LIGHT.name

    def on_mount(self) -> None:
        """Watch the terminal, if there is one."""
        if has_terminal():
            self.set_interval(_CHECK_S, self._end_with_terminal)

    def action_shade(self) -> None:
        """Switch between the dark and the light theme."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def _end_with_terminal(self) -> None:
        if not has_terminal():
            self.exit(return_code=_HUNG_UP)


def has_terminal() -> bool:
    """Return whether the standard input is a terminal that is still there."""
    try:
        return sys.__stdin__ is not None and os.isatty(sys.__stdin__.fileno())
    except (OSError, ValueError):  # closed
        return False
