"""The help screen of the terminal interfaces: keys and signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult


class HelpScreen(ModalScreen[None]):
    """A text in markup, above the screen that asked for help."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "close")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll {
        width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 2;
        background: $surface; border: round $primary; overflow-x: hidden;
        scrollbar-size-vertical: 1;
    }
    """

    def __init__(self, text: str) -> None:
        """Show a text of lines of at most 70 columns."""
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Compose the widgets."""
        with VerticalScroll():
            yield Static(self.text)
