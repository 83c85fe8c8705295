"""The table of programs, from the results of `scripts/programs --results`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .catalogue import Program

_HEAD = (
    "| program | sampled | exact | attached | RSS, owned + files + slack | CPU sampled, exact |"
    " largest owners | what a developer would name |"
)


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read the results of each program by mode. The last result of a mode is the one that counts."""
    results: dict[str, dict[str, Any]] = {}
    for text in path.read_text().splitlines():
        row = json.loads(text)
        results.setdefault(row["program"], {})[row["mode"]] = row
    return results


def format_table(programs: Sequence[Program], results: dict[str, dict[str, Any]]) -> str:
    """Format a Markdown table of the programs that have results."""
    lines = [_HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
    lines += [
        _row(program, results[program.name]) for program in programs if program.name in results
    ]
    return "\n".join(lines)


def _row(program: Program, modes: dict[str, Any]) -> str:
    ways = [_way(modes.get(mode)) for mode in ("sampled", "exact", "attached")]
    best = modes.get("sampled") or next(iter(modes.values()))
    figures = best["figures"]
    account = owners = "unknown"
    if figures:
        shares = [100 * figures[name] for name in ("owned", "files", "slack")]
        account = f"{figures['rss_bytes'] / 2**20:.0f} MiB, " + " + ".join(
            f"{share:.0f}" for share in shares
        )
        account += " %"
        owners = ", ".join(
            f"`{function}`" + (" (!)" if function in best["strange"] else "")
            for function, _ in figures["owners"]
        )
    cpu = ", ".join(_ratio(modes.get(mode)) for mode in ("sampled", "exact"))
    cells = [program.name, *ways, account, cpu, owners or "none", program.why]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _way(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return "; ".join(row["differences"]) or "as bare"


def _ratio(row: dict[str, Any] | None) -> str:
    return f"{row['overhead']:.2f}" if row and row["overhead"] else "-"
