"""The catalogue of trust: programs whose truth is known, and what mematlas must say of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[2] / "trust"
KINDS = ("first sentence", "top line", "verdict")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a text must say. The text is read with every run of blanks as one blank.

    `truth` is bytes as in "25 MiB", or the name of a line "truth NAME BYTES" on the program's
    stdout. The size found must be within `within` of the truth, or within `errors` times the
    error found beside the size.
    """

    kind: str  # one of KINDS
    pattern: (
        str  # a regular expression; the group `size` is compared with `truth`, `error` is its error
    )
    absent: str = ""  # a regular expression that must not occur in the text
    command: tuple[str, ...] = ()  # of mematlas, with {file}, {tmp}, {pid}; empty: stderr of `run`
    status: int = 0  # exit status of the command
    truth: str = ""
    within: float = 0.05
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One program, how it is traced, and the claims. The source is NAME.c or NAME.py beside NAME.toml."""

    name: str
    why: str  # what the truth is, and how it is known
    claims: tuple[Claim, ...]
    source: str = ""  # file name; empty: NAME.c or NAME.py
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # of `mematlas run`
    flags: tuple[str, ...] = ()  # of the compiler
    status: int = 0  # of the program
    shell: str = ""  # instead of `mematlas run`: a command with {python}, {program}, {file}, {tmp}
    beside: bool = (
        False  # the program runs untraced, prints "ready", and is judged meanwhile, as {pid}
    )
    root: bool = False  # needs root


def read_cases(folder: Path = CASES) -> list[Case]:
    """Read the cases in the order of their names. Raise ValueError where a field is unknown."""
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def _read(path: Path) -> Case:
    """Read one case."""
    row = tomllib.loads(path.read_text())
    claims = tuple(Claim(**_known(Claim, each, path)) for each in row.pop("claim", ()))
    for claim in claims:
        if claim.kind not in KINDS:
            raise ValueError(f"{path.name}: {claim.kind!r} is none of {', '.join(KINDS)}")
    return Case(name=path.stem, claims=claims, **_known(Case, row, path))


def _known(model: type, row: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the fields of a table with lists as tuples. Raise ValueError for an unknown one."""
    if unknown := row.keys() - {field.name for field in fields(model)}:
        raise ValueError(f"{path.name}: unknown {', '.join(sorted(unknown))}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
