"""The table of programs, from the results of `scripts/programs --results`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .judge import explained, strange_owners, unnamed_owners

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .catalogue import Program
    from .results import Result

_HEAD = (
    "| program | sampled | exact | attached | RSS | owned + files + slack | largest owners |"
    " what a developer would name |"
)
_ENOUGH = 0.95


def format_table(programs: Sequence[Program], results: dict[str, dict[str, Result]]) -> str:
    """Format a summary and a Markdown table of the programs that have results."""
    known = [
        (program, _modes(program, results[program.name]))
        for program in programs
        if program.name in results
    ]
    lines = [*_summary(known), "", _HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
    lines += [_row(program, modes) for program, modes in known]
    return "\n".join(lines)


def _modes(program: Program, modes: dict[str, Result]) -> dict[str, Result]:
    """Return the results without those of attaching to a program that is not attached to any more."""
    return {mode: one for mode, one in modes.items() if program.attach or mode != "attached"}


def _summary(known: Sequence[tuple[Program, dict[str, Result]]]) -> Iterable[str]:
    """Return what holds for how many programs."""
    best = [(program, _best(modes)) for program, modes in known]
    measured = [(program, one) for program, one in best if one.figures]
    same = sum(not any(one.differences for one in modes.values()) for _, modes in known)
    enough = [one.program for _, one in measured if explained(one.figures) < _ENOUGH]
    named = [(program, one) for program, one in measured if program.owners]
    strange = [one.program for program, one in named if strange_owners(program, one.figures)]
    yield f"- {same} of {len(known)} programs ran as bare in each mode."
    yield _count(
        "have an owner, a named file or a named allocator for 95 % of RSS", measured, enough
    )
    yield _count(
        "have no owner among the three largest that a developer would not name", named, strange
    )
    unnamed = [program.name for program, one in named if unnamed_owners(one.figures)]
    yield (
        f"- {len(unnamed)} of them have an owner without a name, for want of symbols"
        f" ({', '.join(unnamed)}): the report names the package that has the symbols."
    )


def _count(what: str, of: Sequence[object], others: Sequence[str]) -> str:
    text = f"- {len(of) - len(others)} of {len(of)} {what}"
    return f"{text}; not {', '.join(others)}." if others else f"{text}."


def _best(modes: dict[str, Result]) -> Result:
    """Return the result whose account is shown: the one of a plain `mematlas run`."""
    return modes.get("sampled") or next(iter(modes.values()))


def _row(program: Program, modes: dict[str, Result]) -> str:
    ways = [_way(modes.get(mode)) for mode in ("sampled", "exact", "attached")]
    figures = _best(modes).figures
    rss = account = owners = "unknown"
    if figures:
        marks = dict.fromkeys(strange_owners(program, figures), " (!)")
        marks |= dict.fromkeys(unnamed_owners(figures), " (?)")
        rss = f"{figures.rss_bytes / 2**20:.0f} MiB"
        shares = [100 * share for share in (figures.owned, figures.files, figures.slack)]
        account = " + ".join(f"{share:.0f}" for share in shares) + f" = {sum(shares):.0f} %"
        owners = ", ".join(
            f"`{_shortened(function)}`{marks.get(function, '')}" for function, *_ in figures.owners
        )
    cells = [program.name, *ways, rss, account, owners or "none of 1 %", program.why]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shortened(function: str) -> str:
    """Return a name without the arguments of its templates."""
    shorter = re.sub(r"(?<=\w)<[^<>]*>", "", function)
    return function if shorter == function else _shortened(shorter)


def _way(result: Result | None) -> str:
    if result is None:
        return "-"
    return re.sub(r" ?\d+ ?", " ", "; ".join(result.differences)) or "as bare"
