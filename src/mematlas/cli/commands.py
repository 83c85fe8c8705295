"""The table of commands. The module of a command is imported only when the command is used.

Each module has `EXAMPLES`, `add_arguments(parser)` and `run(arguments) -> int`, the exit code. Its
docstring is the description in `mematlas COMMAND --help`.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command: its name, its module, its line in `mematlas --help`, and the heading above it."""

    name: str
    module: str
    summary: str
    heading: str = "commands"


def _rows(heading: str, *commands: tuple[str, str]) -> tuple[Command, ...]:
    return tuple(Command(name, f"mematlas.cli.{name}", text, heading) for name, text in commands)


COMMANDS: tuple[Command, ...] = (
    *_rows(
        "record a program",
        ("run", "run a program and record what owns its memory"),
        ("attach", "trace a running process"),
        ("detach", "stop tracing a process"),
    ),
    *_rows(
        "read a recording",
        ("report", "show what owns the resident memory"),
        ("leaks", "list memory that was live at the end"),
        ("diff", "compare two recordings"),
        ("merge", "merge recordings into one"),
        ("export", "convert a recording for another tool"),
        ("serve", "serve a recording over HTTP while it grows"),
        ("lake", "ask the recordings of a fleet"),
    ),
    *_rows(
        "observe processes and the machine",
        ("show", "show the address space of a process"),
        ("pages", "show the state of the pages of a process"),
        ("where", "show what is at one address of a process"),
        ("ps", "list all processes by memory"),
        ("top", "watch the memory of all processes"),
        ("agent", "observe a host for Prometheus, and keep what explains an OOM kill"),
        ("oom", "show what an OOM kill ended, and which line used the memory"),
        ("system", "explain the memory of the machine"),
        ("faults", "count page faults of a process or a command"),
        ("wss", "measure the working set of a process"),
        ("heap", "show what holds the memory of a process"),
        ("cache", "show the page cache of files"),
        ("probe", "check which kernel interfaces are readable, and why not"),
    ),
    *_rows(
        "measure and change",
        ("bench", "measure what memory costs on this machine"),
        ("doctor", "diagnose a machine, process or recording"),
        ("tune", "change the memory settings of the machine"),
        ("exec", "run a program with memory settings of its own"),
        ("migrate", "move the memory of a process to another node"),
    ),
    *_rows(
        "help",
        ("help", "show the help of mematlas or of a command"),
        ("schema", "print the JSON Schema of a command's output"),
        ("docs", "show a page of the documentation"),
        ("completion", "print the completions of a shell"),
        ("version", "print the version"),
    ),
)

READERS = frozenset(
    (
        *("report", "leaks", "diff", "merge", "export", "show", "pages", "where", "ps", "system"),
        *("wss", "heap", "cache", "probe", "doctor", "lake", "help", "docs", "oom"),
    )
)
"""Commands that read, then print and end. A pager shows their output, a progress line that they are busy."""
