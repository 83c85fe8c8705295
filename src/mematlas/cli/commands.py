"""The table of commands. One row a command; its module is imported only when it is used.

A command's module has `add_arguments(parser)` and `run(arguments) -> int` (the exit code).
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command: its name, the module that runs it, and its line in `mematlas --help`."""

    name: str
    module: str
    summary: str


COMMANDS: tuple[Command, ...] = (
    Command("run", "mematlas.cli.run", "run a program and record who owns its memory"),
    Command("attach", "mematlas.cli.attach", "the same of a program that is running"),
    Command("detach", "mematlas.cli.detach", "end what attach began, if it cannot itself"),
    Command("report", "mematlas.cli.report", "what owns the resident memory of a recorded run"),
    Command("leaks", "mematlas.cli.leaks", "what was still live at the end of a recorded run"),
    Command("merge", "mematlas.cli.merge", "several recordings into one that adds them up"),
    Command("diff", "mematlas.cli.diff", "what grew and what shrank between two recorded runs"),
    Command(
        "export", "mematlas.cli.export", "a recording as pprof, speedscope, DHAT, Parquet, ..."
    ),
    Command("show", "mematlas.cli.show", "what a process's address space holds and really takes"),
    Command("pages", "mematlas.cli.pages", "what is behind the pages of a process, with a map"),
    Command("where", "mematlas.cli.where", "what one address is: mapping, symbol, page, frame"),
    Command("ps", "mematlas.cli.ps", "all processes by PSS, USS, RSS, swap, huge pages or faults"),
    Command("top", "mematlas.cli.top", "the same live, with history; records and replays"),
    Command(
        "system", "mematlas.cli.system", "the machine: memory, huge pages, pressure, cgroups, ..."
    ),
    Command("probe", "mematlas.cli.probe", "which facts can be seen here, which not, and why"),
    Command("cache", "mematlas.cli.cache", "what of files and trees is in the page cache"),
    Command("faults", "mematlas.cli.faults", "page faults of a process, or of a command"),
    Command("wss", "mematlas.cli.wss", "the working set: memory a process uses during a time"),
    Command("bench", "mematlas.cli.bench", "measure what memory costs on this machine"),
    Command("exec", "mematlas.cli.exec", "run a program with memory settings of its own"),
    Command(
        "doctor",
        "mematlas.cli.doctor",
        "what is wrong with a machine, process or recording, and the fix",
    ),
    Command("tune", "mematlas.cli.tune", "change the machine's memory knobs, and undo it"),
)
