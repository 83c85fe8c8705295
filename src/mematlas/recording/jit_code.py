"""Names of code that a JIT compiler made: /tmp/perf-PID.map, and the jitdump format of perf."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from typing import IO, TYPE_CHECKING

from mematlas.recording.model import ADDRESS, PYTHON, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_BYTES = 256 << 20  # of a file that is read
MOST_NAME = 4096
JIT_MODULE = "JIT"
_LIBRARY = "[JIT]"  # code of the virtual machine and its libraries, as [vdso] is the kernel's
_PYTHON = "python3"  # a trampoline stands for a Python frame that is recorded anyway

_MAGIC = 0x4A695444  # "JiTD", in the byte order of the machine
_HEADER = struct.Struct("<IIIIIIQQ")
_RECORD = struct.Struct("<IIQ")
_LOAD = struct.Struct("<IIQQQQ")
_MOVE = struct.Struct("<IIQQQQQ")
_CODE_LOAD, _CODE_MOVE = 0, 1

_V8 = re.compile(
    r"^(?P<kind>JS|LazyCompile|Function|Script|Eval|Handler|Builtin|BytecodeHandler|RegExp|Stub|wasm-function)"
    r":(?P<tier>[*~^+']?)(?P<name>.*?)(?: (?P<file>\S.*?):(?P<line>\d+):\d+)?$"
)
_V8_OWN = ("JS", "LazyCompile", "Function", "Script", "Eval")
_PY = re.compile(r"^py::(?P<name>[^:]*):(?P<file>.*)$")
_JAVA = re.compile(r"^(?:[\w.$\[\]]+ )?(?P<name>[\w$./]+(?:[.:]+)(?:[\w$<>]+))\(.*\)$")
_JAVA_LIBRARY = re.compile(r"^(java|javax|jdk|sun|com\.sun|kotlin|scala)[./]")
_STUB = re.compile(
    r"^(Interpreter|.*([Ss]tub|[Aa]dapter|Blob|Trampoline|handler|[Bb]uiltin)\b.*|\w+Routines.*)$"
)


def name_jit_code(
    words: Iterable[int],
    modules: Iterable[tuple[int, int]],
    entries: Iterable[tuple[int, int, str]],
) -> dict[int, tuple[Frame, ...]]:
    """Return the frame of each native word in no module that lies in an entry (start, size, name).

    Later entries replace earlier ones. It is not known which of them held when a block was allocated, so a
    name that was replaced by another is marked.
    """
    jit = _outside({word for word in words if 0 < word < PYTHON}, sorted(modules))
    if not jit:
        return {}
    by_address: dict[int, list[int]] = {}
    for word in jit:
        by_address.setdefault(word & ADDRESS, []).append(word)
    ordered = sorted(by_address)
    found: dict[int, tuple[str, bool]] = {}  # the last name, whether it replaced another function
    for start, size, name in entries:
        first = bisect_right(ordered, start)
        for word in ordered[first : bisect_right(ordered, start + size)]:
            last, replaced = found.get(word, (name, False))
            if name != last:
                replaced = replaced or _parsed(name).function != _parsed(last).function
            found[word] = name, replaced
    return {
        word: (_frame(name, replaced),)
        for address, (name, replaced) in found.items()
        for word in by_address[address]
    }


def _outside(words: set[int], modules: list[tuple[int, int]]) -> list[int]:
    """Return the return addresses that lie in none of the ranges, which do not overlap."""
    starts = [start for start, _ in modules]
    found = []
    for word in words:
        index = bisect_right(starts, word - 1)
        if not index or word - 1 >= modules[index - 1][1]:
            found.append(word)
    return found


def read_perf_map(file: IO[bytes]) -> Iterator[tuple[int, int, str]]:
    """Parse lines of start, size and name; malformed lines are left out."""
    left = MOST_BYTES
    while left > 0 and (line := file.readline(MOST_NAME)):
        left -= len(line)
        start, _, rest = line.partition(b" ")
        size, _, name = rest.partition(b" ")
        try:
            numbers = int(start, 16), int(size, 16)
        except ValueError:
            continue
        if name and 0 < numbers[1] < 1 << 32:
            yield *numbers, name.strip().decode("utf-8", "replace")


def read_jitdump(file: IO[bytes]) -> Iterator[tuple[int, int, str]]:
    """Parse the code loads and moves of a jitdump file, in order of time; a malformed rest is left out."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or _HEADER.unpack(header)[0] != _MAGIC:
        return
    file.seek(max(_HEADER.unpack(header)[2], _HEADER.size))
    loaded: dict[int, tuple[int, str]] = {}  # size and name, by start
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        kind, size, _ = _RECORD.unpack(head)
        if size < _RECORD.size or file.tell() > MOST_BYTES:
            return
        body = file.read(min(size - _RECORD.size, MOST_NAME))
        file.seek(size - _RECORD.size - len(body), 1)
        if kind == _CODE_LOAD and len(body) > _LOAD.size:
            _, _, _, start, length, _ = _LOAD.unpack_from(body)
            name = body[_LOAD.size :].partition(b"\0")[0].decode("utf-8", "replace")
            loaded[start] = length, name
            yield start, length, name
        elif kind == _CODE_MOVE and len(body) >= _MOVE.size:
            _, _, _, old, new, length, _ = _MOVE.unpack_from(body)
            if old in loaded:
                loaded[new] = loaded[old]
                yield new, length, loaded[new][1]


def _frame(name: str, replaced: bool) -> Frame:
    frame = _parsed(name)
    if not replaced:
        return frame
    return Frame(
        f"{frame.function} [or earlier code there]", frame.file, frame.line, frame.module, "native"
    )


def _parsed(name: str) -> Frame:
    """Return the frame of a name as V8, CPython, HotSpot or another JIT writes it."""
    if match := _PY.match(name):
        return Frame(f"py::{match['name']}", None, None, _PYTHON, "native")
    if (match := _V8.match(name)) and match["kind"] in _V8_OWN:
        file = (match["file"] or "").removeprefix("file://")
        return Frame(
            match["name"].strip() or "(anonymous)",
            file or None,
            int(match["line"]) if match["line"] else None,
            JIT_MODULE
            if file and not file.startswith(("node:", "internal/", "evalmachine"))
            else _LIBRARY,
            "native",
        )
    if match or _STUB.match(name):
        return Frame(name, None, None, _LIBRARY, "native")
    if match := _JAVA.match(name):
        function = match["name"].replace("/", ".").replace("::", ".")
        module = _LIBRARY if _JAVA_LIBRARY.match(function) else JIT_MODULE
        return Frame(function, None, None, module, "native")
    return Frame(name, None, None, JIT_MODULE, "native")
