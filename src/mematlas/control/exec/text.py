"""Views of `mematlas exec --dry-run` and `--verify` in the terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.tables import cut, line, note, show

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.control.exec.model import LaunchPlan, Setting


def render_launch(plan: LaunchPlan, *, console: Console) -> None:
    """Write a table of settings: what would be set, or what a process found set after exec."""
    line(
        console, "command", Text(cut(shlex.join(plan.command), console.width - 12, console), "bold")
    )
    if not plan.settings:
        note(console, "nothing to set; the program would run with the current settings")
        return
    verified = any(setting.found is not None for setting in plan.settings)
    last = "after exec" if verified else "by"
    rows = (
        [each.name, each.now, each.wanted, _format_found(each) if verified else each.call]
        for each in plan.settings
    )
    show(console, ("=setting", "now", "wanted", last), rows)
    for each in plan.settings:
        if each.refusal:
            line(console, "refused", Text(f"{each.name}: {each.refusal}", "red"))
        elif not verified:
            note(console, f"{each.name}: {each.meaning}")


def _format_found(setting: Setting) -> Text:
    if setting.found == setting.wanted:
        return Text(f"{setting.found}, as requested", "green")
    if setting.found and setting.found.startswith("unknown"):
        return Text(setting.found, "yellow")
    return Text(f"{setting.found}: NOT as requested", "red")
