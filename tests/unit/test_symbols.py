"""Symbols of programs built here and now, against addr2line's answers and the rules on builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mematlas.model.recording import Frame, Module
from mematlas.recording import elf, symbols
from mematlas.recording.symbols import demangle, open_table

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
    """Keep the tests' lookup tables out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tool(*command: str | Path) -> str:
    """Run a tool of the compiler's and give its output."""
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
    """Give a module as the tracer would report it."""
    facts = elf.read(path)
    assert facts
    return Module(str(path), facts.build_id if build_id is None else build_id, bias, 0, 1 << 40)


def return_addresses(program: Path) -> list[int]:
    """Addresses right after each call instruction of main and take."""
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
    """Give addr2line's (bare function, file:line) for the call before a return address."""
    lines = tool("addr2line", "-f", "-i", "-C", "-e", program, hex(address - 1)).splitlines()
    places = [where.split(" (")[0] for where in lines[1::2]]
    return [(bare(name), where) for name, where in zip(lines[::2], places, strict=True)]


def bare(name: str) -> str:
    """Give the last part of a name: no scope, template arguments or parameters."""
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
        # addr2line gives the innermost the name of the symbol it lies in, inlined or not
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
    """A stripped program with a debug link resolves as the whole one did."""
    program = build(tmp_path)
    addresses = return_addresses(program)
    whole = [open_table(module(program)).frames(address) for address in addresses]
    debug = tmp_path / ".debug" / "shop.debug"
    debug.parent.mkdir()
    tool("objcopy", "--only-keep-debug", program, debug)
    tool("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program)
    assert [open_table(module(program)).frames(address) for address in addresses] == whole


def test_a_debug_file_of_another_build_is_not_used(tmp_path: Path) -> None:
    """A debug link that leads to another build's file is passed over."""
    program = build(tmp_path)
    address = return_addresses(program)[0]
    other = tmp_path / "other"
    other.mkdir()
    debug = tmp_path / "shop.debug"
    tool("objcopy", "--only-keep-debug", build(other, "-DOTHER", "-O1"), debug)
    tool("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", program)
    assert [frame.line for frame in open_table(module(program)).frames(address)] == [None]


def test_a_stripped_program_shows_module_and_offset(tmp_path: Path) -> None:
    """Without symbols a frame is module+offset, with the address the file itself uses."""
    program = build(tmp_path)
    address = return_addresses(program)[0]
    tool("strip", program)
    (frame,) = open_table(module(program)).frames(address)
    assert frame == Frame(f"shop+{address:#x}", None, None, str(program), "native")


def test_a_rebuilt_program_is_not_resolved_with_the_wrong_build(tmp_path: Path) -> None:
    """A file whose build ID has changed gives offsets and a note, never other functions."""
    old = module(build(tmp_path))
    address = return_addresses(tmp_path / "shop")[0]
    build(tmp_path, "-O1")
    table = open_table(old)
    assert [frame.function for frame in table.frames(address)] == [f"shop+{address:#x}"]
    assert "rebuilt since it was loaded" in table.note


def test_a_deleted_program_gives_offsets_and_a_note(tmp_path: Path) -> None:
    """A file that is gone gives offsets and a note that says so."""
    old = module(build(tmp_path))
    (tmp_path / "shop").unlink()
    table = open_table(old)
    assert [frame.function for frame in table.frames(0x1234)] == ["shop+0x1234"]
    assert table.note.startswith(f"{tmp_path / 'shop'}: No such file or directory")


def test_addresses_outside_any_function_are_offsets(tmp_path: Path) -> None:
    """The PLT and what lies beyond the text are not taken for the function before them."""
    program = build(tmp_path)
    sections = tool("objdump", "-h", program)
    plt = re.search(r"\.plt\s+([0-9a-f]+)\s+([0-9a-f]+)", sections)
    assert plt
    table = open_table(module(program))
    for address in (int(plt[2], 16) + int(plt[1], 16) - 8, 0xFFFFF0):
        assert table.frames(address)[0].function == f"shop+{address:#x}"


def test_the_vdso_is_named(tmp_path: Path) -> None:
    """The kernel's own code page has no file and still a name."""
    table = open_table(Module("linux-vdso.so.1", "", 0, 0, 4096))
    assert table.frames(0x890)[0] == Frame("[vdso]+0x890", None, None, "[vdso]", "native")
    assert not table.note


def test_lookup_tables_are_kept_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that took long is kept by build ID; a damaged one is made anew; old ones go."""
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


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("main", "main"),
        ("_ZN4shop4takeEm", "shop::take"),
        ("_ZN4shop4takeEm.cold", "shop::take"),
        ("_ZN4shop4takeEm.constprop.0.isra.1", "shop::take"),
        ("parse.part.3", "parse"),
        ("__GI___getdelim", "__getdelim"),
        ("__libc_start_main_alias_2", "__libc_start_main"),
        ("_Znwm", "operator new"),
        (
            "_ZN4shop4CartINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEE3addES6_",
            "shop::Cart<std::string>::add",
        ),
        ("_ZN1r5store13Cart$LT$T$GT$3add17hfbdf5f536a3f63a4E", "r::store::Cart<T>::add"),
        ("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
        ("_Z", "_Z"),
    ],
)
def test_names_are_as_in_the_source(mangled: str, name: str) -> None:
    """C++ and Rust names lose their mangling, parameters, hashes and clone marks."""
    assert demangle(mangled) == name


def test_a_file_that_is_no_elf_has_no_symbols(tmp_path: Path) -> None:
    """Whatever a path leads to, it never raises."""
    for number, data in enumerate((b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 200)):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert elf.read(path) is None
        table = open_table(Module(str(path), "", 0, 0, 4096))
        assert table.frames(0x10)[0].function == f"{number}+0x10"
