"""The frames of native stacks: which function's part of a stack a word lies in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas._core import HeapModule
from mematlas.linux.mappings import Permission
from mematlas.recording.symbols import demangle

if TYPE_CHECKING:
    from mematlas._core import HeapHandle
    from mematlas.heap.model.image import Image, Thread
    from mematlas.heap.read.variables import Variables

_MOST_FRAMES = 256
# The order of the columns of call frame information, and the program counter.
_REGISTERS = (
    *("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rip"),
)


@dataclass(frozen=True, slots=True)
class StackFrame:
    """The part [start, end) of a stack that one call of a function uses."""

    function: str
    start: int
    end: int


@dataclass(slots=True)
class StackReader:
    """Unwinds the threads of an image."""

    image: Image
    handle: HeapHandle
    files: dict[tuple[int, int], Variables]
    _modules: list[HeapModule] = field(init=False)
    _file_of: dict[HeapModule, tuple[int, int]] = field(init=False)
    _names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, self._file_of = self.image.mappings, {}
        headers: dict[tuple[int, int], int] = {}
        for index in range(rows.count):
            file = (rows.device[index], rows.inode[index])
            if file[1] and not rows.offset[index]:
                headers[file] = rows.start[index]  # a file may be loaded twice: the last one before
            if file in headers and rows.permissions[index] & Permission.EXECUTE:
                module = HeapModule(rows.start[index], rows.end[index], headers[file])
                self._file_of[module] = file
        self._modules = sorted(self._file_of)

    def frames(self, thread: Thread) -> list[StackFrame]:
        """Return the frames of a thread, the innermost first. The outermost may be missing."""
        if thread.stack is None or not all(name in thread.registers for name in _REGISTERS):
            return []
        words = [thread.registers[name] for name in _REGISTERS]
        at, stack_end = thread.stack
        found = []
        for code, end in self.handle.unwind(self._modules, words, _MOST_FRAMES):
            if not at < end <= stack_end:  # an alternate stack
                break
            found.append(StackFrame(self._name(code), at, end))
            at = end
        return found

    def _name(self, code: int) -> str:
        if code not in self._names:
            module = next(each for each in self._modules if each.start <= code < each.end)
            file = self.files.get(self._file_of[module])
            name = file.function(code) if file else None
            path = file.path if file else "?"
            self._names[code] = (
                function_name(name)
                if name
                else f"{path.rpartition('/')[2]}+{code - module.header:#x}"
            )
        return self._names[code]


def function_name(symbol: str) -> str:
    """Return how a function is shown, by its symbol."""
    return f"{demangle(symbol).removesuffix(' const')}()"
