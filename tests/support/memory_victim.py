"""Runs of tests/programs/memory_victim.c, a process with one mapping of every kind at known addresses."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Victim:
    """A waiting process and its mappings: (start, length) by name."""

    pid: int
    at: dict[str, tuple[int, int]]


@contextmanager
def opened(program: Path, *arguments: str) -> Iterator[Victim]:
    """Run the program until the block ends."""
    with subprocess.Popen(
        [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        at: dict[str, tuple[int, int]] = {}
        for line in iter(process.stdout.readline, "ready\n"):
            name, start, length = line.split()
            at[name] = int(start, 16), int(length, 16)
        try:
            yield Victim(process.pid, at)
        finally:
            process.communicate("\n")
