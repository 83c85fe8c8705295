"""Perf maps and jitdump files: names of code by address."""

from __future__ import annotations

import io
import struct
import tracemalloc

import pytest

from mematlas.recording.jit_code import name_jit_code, read_jitdump, read_perf_map
from mematlas.recording.model import Frame
from mematlas.recording.ownership import LIBRARY, OWN, RUNTIME, tier

MAP = b"""7f00 10 one
0x0000000000007f20 0x0000000000000010 int app.Main.run(java.lang.String[])
nonsense
7f40 zz bad
7f60 0 empty
7f80 10 JS:*load /srv/app.js:12:7
7f80 10 JS:*save /srv/app.js:19:7
 90 10
"""


def test_a_map_gives_names_to_return_addresses() -> None:
    """An address is that after the call; malformed lines are left out; both forms of numbers are read."""
    entries = list(read_perf_map(io.BytesIO(MAP)))
    assert [start for start, _, _ in entries] == [0x7F00, 0x7F20, 0x7F80, 0x7F80]
    names = name_jit_code({0x7F00, 0x7F01, 0x7F10, 0x7F11, 0x7F25, 1 << 63 | 0x7F05}, [], entries)
    assert {word: frames[0].function for word, frames in names.items()} == {
        0x7F01: "one",
        0x7F10: "one",
        0x7F25: "app.Main.run",
    }


def test_a_replaced_name_is_marked() -> None:
    """The map has no times: it is not known which of two functions allocated."""
    names = name_jit_code({0x7F88}, [], read_perf_map(io.BytesIO(MAP)))
    assert names[0x7F88][0].function == "save [or earlier code there]"


def test_names_that_alternate_take_no_memory() -> None:
    """A hostile map names the same code again and again: what is kept does not grow with its lines."""
    words = range(0x7F01, 0x7F41)
    entries = ((0x7F00, 64, f"f{index % 2}") for index in range(4000))
    tracemalloc.start()
    try:
        names = name_jit_code(words, [], entries)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {frames[0].function for frames in names.values()} == {"f1 [or earlier code there]"}
    assert peak < 256 << 10  # a list of all names of each word: 2 MiB


def test_words_in_modules_are_left_alone() -> None:
    """A module's code is named by its symbols, whatever a map says; bits of the epoch do not matter."""
    word = 3 << 57 | 0x7F05
    names = name_jit_code({0x7F05, word}, [(0x7F00, 0x7F20)], [(0x7F00, 16, "one")])
    assert list(names) == [word]


@pytest.mark.parametrize(
    ("name", "frame", "whose"),
    [
        ("JS:~rows /srv/app.js:1:14", Frame("rows", "/srv/app.js", 1, "JIT", "native"), OWN),
        ("LazyCompile:* file:///srv/a b.mjs:3:1", Frame("(anonymous)", "/srv/a b.mjs", 3, "JIT", "native"), OWN),
        ("JS:^emit node:events:400:5", Frame("emit", "node:events", 400, "[JIT]", "native"), LIBRARY),
        ("Function:f /srv/node_modules/x/i.js:2:2", Frame("f", "/srv/node_modules/x/i.js", 2, "JIT", "native"), LIBRARY),
        ("Builtin:ArrayMap", Frame("Builtin:ArrayMap", None, None, "[JIT]", "native"), LIBRARY),
        ("py::rows:/srv/a.py", Frame("py::rows", None, None, "python3", "native"), RUNTIME),
        ("void B.direct(int)", Frame("B.direct", None, None, "JIT", "native"), OWN),
        ("java.nio.ByteBuffer java.nio.ByteBuffer.allocateDirect(int)", Frame("java.nio.ByteBuffer.allocateDirect", None, None, "[JIT]", "native"), LIBRARY),
        ("Interpreter", Frame("Interpreter", None, None, "[JIT]", "native"), LIBRARY),
        ("StubRoutines (1)", Frame("StubRoutines (1)", None, None, "[JIT]", "native"), LIBRARY),
    ],
)  # fmt: skip
def test_names_of_several_compilers(name: str, frame: Frame, whose: int) -> None:
    """V8, CPython, HotSpot: function, file, line, and whose code it is."""
    ((found,),) = name_jit_code({0x7F05}, [], [(0x7F00, 16, name)]).values()
    assert found == frame
    assert tier(found) == whose


def record(kind: int, body: bytes) -> bytes:
    """Return one record of a jitdump."""
    return struct.pack("<IIQ", kind, 16 + len(body), 1) + body


def test_a_jitdump_has_loads_and_moves() -> None:
    """Moved code keeps its name; unknown records are passed; a cut file ends quietly."""
    header = struct.pack("<IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 1, 0, 0)
    load = record(0, struct.pack("<IIQQQQ", 1, 1, 0, 0x7F00, 16, 1) + b"first\0" + b"\x90" * 5000)
    debug = record(2, b"x" * 33)
    move = record(1, struct.pack("<IIQQQQQ", 1, 1, 0, 0x7F00, 0x8F00, 16, 1))
    found = list(read_jitdump(io.BytesIO(header + load + debug + move + load[:20])))
    assert found == [(0x7F00, 16, "first"), (0x8F00, 16, "first")]
    assert list(read_jitdump(io.BytesIO(b"text"))) == []
    assert list(read_jitdump(io.BytesIO(header + struct.pack("<IIQ", 0, 0, 0)))) == []
