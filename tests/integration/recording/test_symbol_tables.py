"""Symbols of compiled programs, compared with addr2line, and the rules on builds."""

from __future__ import annotations

import ctypes
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.recording import debuginfod, elf, symbols
from mematlas.recording.frames import Resolver
from mematlas.recording.model import Frame, Module
from mematlas.recording.symbols import open_table

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ("g++", "objdump", "objcopy", "strip", "addr2line")
missing = [tool for tool in TOOLS if not shutil.which(tool)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")

SOURCE = """
#include <cstdlib>
#include <string>
#include <vector>
namespace shop {
struct Cart {
	std::vector<std::string> lines;
	inline void add(const char *name) { lines.push_back(name); }
};
static inline __attribute__((always_inline)) void *grab(size_t size)
{
	void *block = malloc(size);
	asm volatile("" ::: "memory");
	return block;
}
__attribute__((noinline)) void *take(size_t size)
{
	void *block = grab(size);
	if (!block)
		abort();
	return block;
}
}
int main(int argc, char **argv)
{
	shop::Cart cart;
	for (int i = 0; i < argc; i++)
		cart.add(argv[i]);
	return shop::take(100) == nullptr;
}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lookup tables of the tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tool(*command: str | Path) -> str:
    """Run a tool of the compiler and return its output."""
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    ).stdout


def build(folder: Path, *flags: str) -> Path:
    """Compile the program above."""
    source = folder / "shop.cpp"
    source.write_text(SOURCE)
    program = folder / "shop"
    tool("g++", "-O2", "-g", *flags, "-Wl,--build-id", source, "-o", program)
    return program


def module(path: Path, bias: int = 0, build_id: str | None = None) -> Module:
    """Return a module as the tracer would report it."""
    facts = elf.read(path)
    assert facts
    return Module(str(path), facts.build_id if build_id is None else build_id, bias, 0, 1 << 40)


def return_addresses(program: Path) -> list[int]:
    """Return the addresses after each call instruction of main and take."""
    listing = tool("objdump", "-d", "--no-show-raw-insn", program)
    lines = re.findall(r"^\s*([0-9a-f]+):\s+(\S+)|^[0-9a-f]+ <(.*)>:$", listing, re.MULTILINE)
    found, function, was_call = [], "", False
    for address, mnemonic, name in lines:
        function = name or function
        if was_call and address and function.split(".")[0] in {"main", "_ZN4shop4takeEm"}:
            found.append(int(address, 16))
        was_call = mnemonic == "call"
    return found


def oracle(program: Path, address: int) -> list[tuple[str, str]]:
    """Return addr2line's (bare function, file:line) of the call before a return address."""
    lines = tool("addr2line", "-f", "-i", "-C", "-e", program, hex(address - 1)).splitlines()
    places = [where.split(" (")[0] for where in lines[1::2]]
    return [(bare(name), where) for name, where in zip(lines[::2], places, strict=True)]


def bare(name: str) -> str:
    """Return the last part of a name, without scope, template arguments and parameters."""
    while (shorter := re.sub(r"<[^<>]*>|\([^()]*\)|\[[^\[\]]*\]", "", name)) != name:
        name = shorter
    return name.split("::")[-1].split(" ")[-1].strip().split(".")[0]


@pytest.mark.parametrize("flags", [(), ("-no-pie",)], ids=["pie", "no-pie"])
def test_frames_are_those_of_addr2line(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Function, file, line and inlining of every call agree with addr2line."""
    program = build(tmp_path, *flags)
    table = open_table(module(program))
    addresses = return_addresses(program)
    assert len(addresses) > 5
    inlined = 0
    seen: set[str] = set()
    for address in addresses:
        frames = table.frames(address)
        expected = oracle(program, address)
        where = [f"{Path(f.file or '?').resolve()}:{f.line or '?'}" for f in frames]
        names = [bare(frame.function) for frame in frames]
        # addr2line names the innermost frame after its symbol, even if it is inlined
        assert names[1:] == [name for name, _ in expected[1:]]
        assert len(names) == len(expected)
        for mine, (_, theirs) in zip(where, expected, strict=True):
            file, _, line = theirs.rpartition(":")
            assert line in {"?", "0"} or mine == f"{Path(file).resolve()}:{line}"
        seen.update(frame.function for frame in frames)
        inlined += sum(frame.kind == "inlined" for frame in frames)
        assert frames[-1].kind == "native"
    assert inlined > 5
    assert {"main", "shop::take", "grab"} <= seen
    assert any(name.startswith("std::vector<") for name in seen)


def test_a_separate_debug_file_is_used(tmp_path: Path) -> None:
    """A stripped program with a debug link resolves like the original."""
    program = build(tmp_path)
    addresses = return_addresses(program)
    whole = [open_table(module(program)).frames(address) for address in addresses]
    debug = tmp_path / ".debug" / "shop.debug"
    debug.parent.mkdir()
    tool("objcopy", "--only-keep-debug", program, debug)
    tool("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program)
    assert [open_table(module(program)).frames(address) for address in addresses] == whole


def test_a_debug_file_of_another_build_is_not_used(tmp_path: Path) -> None:
    """A debug link to the file of another build is ignored."""
    program = build(tmp_path)
    address = return_addresses(program)[0]
    other = tmp_path / "other"
    other.mkdir()
    debug = tmp_path / "shop.debug"
    tool("objcopy", "--only-keep-debug", build(other, "-DOTHER", "-O1"), debug)
    tool("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program)
    assert [frame.line for frame in open_table(module(program)).frames(address)] == [None]


def test_a_stripped_program_shows_module_and_offset(tmp_path: Path) -> None:
    """Without symbols a frame is module+offset of the start of the function, whose length is known."""
    program = build(tmp_path)
    address = return_addresses(program)[0]
    symbols = [line.split() for line in tool("nm", program).splitlines()]
    starts = [int(each[0], 16) for each in symbols if len(each) == 3 and each[1] in "tTwW"]
    start = max(each for each in starts if each < address)
    tool("strip", program)
    (frame,) = open_table(module(program)).frames(address)
    assert frame.code_bytes is not None
    assert address <= start + frame.code_bytes
    assert replace(frame, code_bytes=None) == Frame(
        f"shop+{start:#x}", None, None, str(program), "native"
    )


def test_a_rebuilt_program_is_not_resolved_with_the_wrong_build(tmp_path: Path) -> None:
    """A file with a changed build ID gives offsets and a note, never other functions."""
    old = module(build(tmp_path))
    address = return_addresses(tmp_path / "shop")[0]
    build(tmp_path, "-O1")
    table = open_table(old)
    assert [frame.function for frame in table.frames(address)] == [f"shop+{address:#x}"]
    assert "rebuilt since it was loaded" in table.note


def test_a_deleted_program_gives_offsets_and_a_note(tmp_path: Path) -> None:
    """A missing file gives offsets and a note."""
    old = module(build(tmp_path))
    (tmp_path / "shop").unlink()
    table = open_table(old)
    assert [frame.function for frame in table.frames(0x1234)] == ["shop+0x1234"]
    assert table.note.startswith(f"{tmp_path / 'shop'}: No such file or directory")


def test_addresses_outside_any_function_are_offsets(tmp_path: Path) -> None:
    """The PLT and addresses beyond the text are not attributed to the function before them."""
    program = build(tmp_path)
    sections = tool("objdump", "-h", program)
    plt = re.search(r"\.plt\s+([0-9a-f]+)\s+([0-9a-f]+)", sections)
    assert plt
    table = open_table(module(program))
    for address in (int(plt[2], 16) + int(plt[1], 16) - 8, 0xFFFFF0):
        assert table.frames(address)[0].function == f"shop+{address:#x}"


def test_lookup_tables_are_kept_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expensive table is cached by build ID; a damaged one is rebuilt; old ones are removed."""
    monkeypatch.setattr(symbols, "_WORTH_KEEPING_S", -1.0)
    program = build(tmp_path)
    address = return_addresses(program)[0]
    first = open_table(module(program)).frames(address)
    (kept,) = symbols.cache_directory().iterdir()
    assert kept.name.startswith(module(program).build_id)
    status = kept.stat()
    os.utime(kept, (1, 1))
    assert open_table(module(program)).frames(address) == first
    assert kept.stat().st_ino == status.st_ino
    assert kept.stat().st_mtime > 1
    kept.write_bytes(b"damaged")
    assert open_table(module(program)).frames(address) == first
    monkeypatch.setattr(symbols, "CACHE_BYTES", kept.stat().st_size)
    stale = kept.with_name("old.symcache")
    stale.write_bytes(b"x")
    os.utime(stale, (1, 1))
    kept.unlink()
    open_table(module(program))
    assert list(symbols.cache_directory().iterdir()) == [kept]


@pytest.fixture
def stripped(tmp_path: Path) -> tuple[Path, Path]:
    """Return a program without symbols, and its separate debug file."""
    program = build(tmp_path)
    debug = tmp_path / "elsewhere"
    tool("objcopy", "--only-keep-debug", program, debug)
    tool("strip", program)
    return program, debug


def module_of(program: Path) -> Module:
    """Return a program as if loaded at address 0."""
    facts = elf.read(program)
    assert facts
    return Module(str(program), facts.build_id, 0, 0, 1 << 20)


class Server:
    """HTTP server of one directory that counts its requests."""

    def __init__(self, folder: Path) -> None:
        """Start on a free local port."""
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def do_GET(self) -> None:
                server.asked += 1
                super().do_GET()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.asked = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a debuginfod server without files, set in the environment."""
    made = Server(tmp_path / "served")
    monkeypatch.setenv("DEBUGINFOD_URLS", f"{made.url}/")
    monkeypatch.delenv("DEBUGINFOD_CACHE_PATH", raising=False)
    yield made
    made.close()


def take_address(debug: Path) -> int:
    """Return the address of shop::take()."""
    lines = tool("objdump", "-t", debug).splitlines()
    [line] = [line for line in lines if line.endswith("_ZN4shop4takeEm")]
    return int(line.split()[0], 16) + 8


def test_debuginfod_is_asked_once(
    stripped: tuple[Path, Path], server: Server, tmp_path: Path
) -> None:
    """A file of a server is used and cached where elfutils looks for it."""
    program, debug = stripped
    module = module_of(program)
    place = tmp_path / "served" / "buildid" / module.build_id
    place.mkdir(parents=True)
    shutil.copy(debug, place / "debuginfo")
    for _ in range(2):
        frames = open_table(module).frames(take_address(debug))
        assert frames[-1].function == "shop::take"
        assert frames[-1].line
    assert server.asked == 1
    assert (tmp_path / "cache" / "debuginfod_client" / module.build_id / "debuginfo").stat().st_size


def test_debuginfod_that_has_nothing_is_believed(
    stripped: tuple[Path, Path], server: Server
) -> None:
    """A 404 is cached: the next lookup sends no request."""
    program, debug = stripped
    for _ in range(2):
        [frame] = open_table(module_of(program)).frames(take_address(debug))
        assert frame.function.startswith("shop+0x")
    assert server.asked == 1


def test_debuginfod_is_not_asked_without_need(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, stripped: tuple[Path, Path]
) -> None:
    """No request for files with debug information, or without $DEBUGINFOD_URLS."""
    (tmp_path / "whole").mkdir()
    open_table(module_of(build(tmp_path / "whole")))
    monkeypatch.delenv("DEBUGINFOD_URLS")
    open_table(module_of(stripped[0]))
    assert server.asked == 0


def test_a_debuginfod_that_does_not_answer_is_named(
    stripped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable server costs one attempt and one note."""
    monkeypatch.setenv("DEBUGINFOD_URLS", "http://127.0.0.1:1")
    monkeypatch.setattr(debuginfod, "_given_up", {})
    program, debug = stripped
    [frame] = open_table(module_of(program)).frames(take_address(debug))
    assert frame.function.startswith("shop+0x")
    [failure] = debuginfod.failures()
    assert "http://127.0.0.1:1: " in failure


def test_a_function_is_known_by_its_address(tmp_path: Path) -> None:
    """A cold part is named after the hot part of the function at its address."""
    program = build(tmp_path)
    address = take_address(program) - 8
    assert elf.function_at(program, address) == "_ZN4shop4takeEm"
    assert elf.function_at(program, 1) == ""
    assert elf.function_at(tmp_path / "missing", address) == ""
    table = open_table(module_of(program))
    table.hot_names[address] = "shop_as_told_by_the_symbol"
    found = table.caches[0].lookup(address + 7)
    if found and ".cold" in found[-1].symbol:  # depends on the layout chosen by the compiler
        assert table.frames(address + 8)[-1].function == "shop_as_told_by_the_symbol"


def test_this_interpreter_resolves_its_own_addresses() -> None:
    """Exported functions of the running interpreter resolve by name through its own mapping."""
    address = ctypes.cast(ctypes.pythonapi.PyObject_Malloc, ctypes.c_void_p).value
    assert address
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        rows = [line.split(None, 5) for line in maps]
    (path,) = {row[5].strip() for row in rows if _holds(row[0], address)}
    spans = [row[0].split("-") for row in rows if len(row) > 5 and row[5].strip() == path]
    start, end = int(spans[0][0], 16), int(spans[-1][1], 16)
    bias = start if start > 1 << 32 else 0
    module = Module(path, "", bias, start, end)
    frames = Resolver().resolve([address + 5], [module], [])[address + 5]
    assert frames[-1].function == "PyObject_Malloc", sys.version


def _holds(span: str, address: int) -> bool:
    start, end = (int(each, 16) for each in span.split("-"))
    return start <= address < end


RACE = """
import os, shutil, sys, threading
from mematlas.recording import elf
whole, path = sys.argv[1:]
data = open(whole, "rb").read()
def shrink():
    for _ in range(300):
        open(path, "wb").write(data)
        os.truncate(path, 4096)
shutil.copy(whole, path)
racing = threading.Thread(target=shrink)
racing.start()
while racing.is_alive():
    elf.read(path), elf.function_starts(path), elf.function_at(path, 1)
"""


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """A writer that truncates a module cannot end its reader by SIGBUS."""
    whole = shutil.which("gcc") or sys.executable
    done = subprocess.run(
        [sys.executable, "-c", RACE, whole, tmp_path / "m"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_functions_without_lines_are_looked_up_once() -> None:
    """All addresses of a file without lines have the frames that each has by itself."""
    path = Path("/lib/x86_64-linux-gnu/libc.so.6")
    if not path.exists():
        pytest.skip(f"no {path} here")
    table = open_table(Module(str(path), "", 0, 0, 1 << 30))
    if table.has_lines or len(table.caches) != 1:
        pytest.skip("libc has debug information here")
    addresses = sorted({1, 0x1000, *range(0x28000, 0x60000, 37), 1 << 40})
    assert table.all_frames(addresses) == [*map(table.frames, addresses)]
