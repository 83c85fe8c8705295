"""`mematlas probe` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.observe.address_space.text import user_name
from mematlas.present.tables import line, show, title

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.probe.model import Interface, Probe


def render_probe(probe: Probe, *, console: Console) -> None:
    """Write what can be seen here, then what not and what would reveal it."""
    line(console, "kernel", probe.kernel)
    line(console, "user", user_name(probe.user))
    line(console, "has", ", ".join(probe.capabilities) or "none of the capabilities that matter")
    if probe.lacking:
        line(console, "lacks", ", ".join(probe.lacking))
    seen = [fact for fact in probe.interfaces if fact.works]
    hidden = [fact for fact in probe.interfaces if not fact.works]
    title(console, f"Seen ({len(seen)})")
    show(console, ("=interface", "provides"), ([_name(fact), _limits(fact)] for fact in seen))
    if hidden:
        title(console, f"Hidden ({len(hidden)})")
        for fact in hidden:
            what = f"{fact.provides}: {fact.reason}; it takes {fact.remedy}"
            line(console, _name(fact) + "  ", what, width=28)


def _name(fact: Interface) -> str:
    """Shorten a path to what tells it from the others."""
    words = fact.name.strip("/").split("/")
    return fact.name if len(fact.name) <= 26 else ".../" + "/".join(words[-2:])[-22:]


def _limits(fact: Interface) -> Text:
    text = Text(fact.provides)
    return text.append(f" ({fact.reason})", "yellow") if fact.reason else text
