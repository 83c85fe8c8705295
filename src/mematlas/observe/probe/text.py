"""`mematlas probe` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.linux.users import user_name
from mematlas.present.tables import line, show, title

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.probe.model import Interface, Probe


def render_probe(probe: Probe, *, console: Console) -> None:
    """Render the interfaces that work, then the others with their remedies."""
    line(console, "kernel", probe.kernel)
    line(console, "user", user_name(probe.user))
    line(console, "has", ", ".join(probe.capabilities) or "none of the relevant capabilities")
    if probe.lacking:
        line(console, "lacks", ", ".join(probe.lacking))
    works = [each for each in probe.interfaces if each.works]
    hidden = [each for each in probe.interfaces if not each.works]
    title(console, f"Available ({len(works)})")
    show(console, ("=interface", "provides"), ([_name(each), _limits(each)] for each in works))
    if hidden:
        title(console, f"Not available ({len(hidden)})")
        for each in hidden:
            text = f"{each.provides}: {each.reason}; needs {each.remedy}"
            line(console, _name(each) + "  ", text, width=34)


def _name(each: Interface) -> str:
    """Return the name, a long path shortened to its last two parts."""
    words = each.name.strip("/").split("/")
    return each.name if len(each.name) <= 26 else ".../" + "/".join(words[-2:])


def _limits(each: Interface) -> Text:
    text = Text(each.provides)
    return text.append(f" ({each.reason})", "yellow") if each.reason else text
