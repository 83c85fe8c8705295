"""Programs whose heap is known, compiled and run for tests of the heap graph."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"


def compile_program(name: str, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Compile a C or C++ program of tests/programs and return its path."""
    source, program = PROGRAMS / name, folder / Path(name).stem
    compiler = "g++" if source.suffix == ".cpp" else "gcc"
    subprocess.run(
        [compiler, source, "-g", "-O1", "-pthread", *flags, "-o", program], check=True, timeout=120
    )
    return program


@contextmanager
def waiting(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a program that prints its PID when its heap is ready, and yield the PID. The program ends with the block."""
    with subprocess.Popen(
        [str(each) for each in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()
