"""The catalogue of the zoo: programs, how to run them, and who owns their memory."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

ZOO = Path(__file__).parents[2] / "zoo"


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the zoo. Texts are shell commands with {work}, {tmp}, {home}, {port} and {python}.

    A program without `ready` is a batch program: it runs to its end. A program with `ready` is a
    server: `ready` succeeds once it answers, `load` is then run against it, and `stop` ends it.
    """

    name: str
    command: str  # replaces the shell: exec is put before it
    needs: tuple[str, ...]  # executables that must be on the PATH
    packages: tuple[str, ...] = ()  # of Debian
    pip: tuple[str, ...] = ()
    prepare: str = ""  # run in an empty folder, before each run
    ready: str = ""
    load: str = ""
    stop: str = ""  # empty: SIGTERM
    check: str = ""  # prints what the run made, for comparison
    volatile: str = ""  # a regular expression: parts of output that differ from run to run
    main: str = ""  # process to attach to: a regular expression of its command; empty: the first
    owners: str = ""  # a regular expression that each of the three largest owners matches
    why: str = ""  # why these owners are what a developer of the program would name
    attach: bool = True  # False: it ends too soon to be attached to
    short: tuple[str, ...] = ()  # modes of the short form
    timeout: float = 240.0


def read_programs(path: Path = ZOO / "programs.toml") -> list[Program]:
    """Read the catalogue. Raise ValueError where a field is unknown."""
    known = {field.name for field in fields(Program)}
    programs = []
    for name, row in tomllib.loads(path.read_text()).items():
        if unknown := row.keys() - known:
            raise ValueError(f"{path.name}: {name}: unknown {', '.join(sorted(unknown))}")
        lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
        programs.append(Program(name=name, **{**row, **lists}))
    return programs
