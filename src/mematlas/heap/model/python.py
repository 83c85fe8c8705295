"""Interpreters of CPython in an image: modules, threads, frames."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Frame:
    """A running function. Its locals are words at `items`, one for each name; its stack follows up to `end`."""

    address: int
    end: int
    function: str
    file: str
    line: int
    items: int
    names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """As in app.py:41 serve()."""
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line} {self.function}()"


@dataclass(frozen=True, slots=True)
class PythonThread:
    """A thread of an interpreter, its frames from the innermost on."""

    address: int
    tid: int
    name: str
    frames: tuple[Frame, ...]
    chunks: tuple[tuple[int, int], ...] = field(default=())  # memory that holds the frames


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter."""

    address: int | None  # of its PyInterpreterState; None: not found, so that threads are unknown
    modules: int  # address of the dict sys.modules
    threads: tuple[PythonThread, ...]


@dataclass(frozen=True, slots=True)
class Python:
    """CPython as a process runs it."""

    minor: (
        int | None
    )  # of CPython 3; None: no version with a known layout, so that text has no names
    objects: int
    interpreters: tuple[Interpreter, ...] = field(repr=False)
    modules: dict[int, str] = field(repr=False)  # names by the address of the module's dict
