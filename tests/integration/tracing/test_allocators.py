"""Preloaded and linked allocators under the tracer, and allocators inside a program, which it cannot hook."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import KEEP_FRAMES
from traced_runs import PROGRAMS, trace

if TYPE_CHECKING:
    from conftest import Run

FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
NAMES = ("libjemalloc.so.2", "libmimalloc.so.2.0", "libtcmalloc_minimal.so.4")
SIZES = """\
#include <stdlib.h>
#include <stdio.h>
static void *volatile kept[3000];
__attribute__((noinline)) static void tiny(void) { for (int i = 0; i < 1000; i++) kept[i] = malloc(8); }
__attribute__((noinline)) static void small(void) { for (int i = 1000; i < 2000; i++) kept[i] = malloc(100); }
__attribute__((noinline)) static void big(void) { for (int i = 2000; i < 2010; i++) kept[i] = malloc(3000000); }
int main(void) {
	tiny(); small(); big();
	for (int i = 0; i < 2000; i += 2) free(kept[i]);
	puts("ok");
	return 0;
}
"""


def library(name: str) -> Path:
    """Return the path of a library; skip if it is missing."""
    for folder in FOLDERS:
        if (Path(folder) / name).exists():
            return Path(folder) / name
    return pytest.skip(f"{name} is not installed")


def compile_with(compiler: str, output: Path, source: Path, *more: str) -> Path:
    """Build a program."""
    command = [compiler, "-g", "-O2", *KEEP_FRAMES, str(source), "-o", str(output), *more]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command)} fails here")
    return output


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a C program that allocates blocks of 8, of 100 and of 3,000,000 bytes."""
    source = tmp_path_factory.mktemp("sizes") / "sizes.c"
    source.write_text(SIZES)
    return compile_with("gcc", source.with_suffix(""), source)


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a C++ program that allocates by each operator."""
    return compile_with("g++", tmp_path_factory.mktemp("news") / "news", PROGRAMS / "news.cpp")


@pytest.mark.parametrize("name", NAMES)
def test_malloc_of_another(sizes: Path, traced: Run, name: str) -> None:
    """Blocks of every size are recorded exactly, also those aligned to 8 bytes only."""
    preload = {"LD_PRELOAD": str(library(name))}
    run = traced(sizes, options=("--exact",), environment=preload)
    for function, count, size in (("tiny", 1000, 8), ("small", 1000, 100)):
        assert run.sum("allocated_bytes", function) == count * size
        assert run.left("live_bytes", function) == count * size // 2
    assert run.left("live_bytes", "big") == 10 * 3_000_000
    assert run.report["bad_frees"] == []


@pytest.mark.parametrize("name", ["", *NAMES])
def test_operators_of_another(news: Path, traced: Run, name: str) -> None:
    """C++ allocations are recorded whether operator new calls malloc() or is the allocator's own."""
    preload = {"LD_PRELOAD": str(library(name)) if name else ""}
    run = traced(news, options=("--exact",), environment=preload)
    assert run.sum("allocations", "by_new", kind="malloc") == 4000
    assert run.sum("allocations", "by_aligned_new", kind="malloc") == 2
    assert run.left("live_bytes", "by_aligned_new") == 100 * 192
    assert run.left("live_bytes", "by_nothrow") == 50_000
    assert run.report["bad_frees"] == []


def test_exceptions_pass_through(news: Path, traced: Run) -> None:
    """std::bad_alloc reaches the program."""
    run = traced(news, "throw", options=("--exact",))
    assert run.outcome.stdout == b"1\n"


def test_plugins_with_a_runtime_of_their_own(tmp_path: Path, traced: Run) -> None:
    """C++ in a plugin of a C program uses its own operators, linked statically or dynamically."""
    source = tmp_path / "plugin.cpp"
    source.write_text(
        '#include <string>\n#include <vector>\nextern "C" long work() {\n'
        "std::vector<std::string> all(1000, std::string(1000, 'x'));\n"
        "try { throw std::string(); } catch (std::string &) {}\nreturn all.size(); }\n"
    )
    for number, more in enumerate([(), ("-static-libstdc++", "-static-libgcc")]):
        plugin = compile_with("g++", tmp_path / f"{number}.so", source, "-shared", "-fPIC", *more)
        code = f"import ctypes; print(ctypes.CDLL('{plugin}').work())"
        run = traced("/usr/bin/env", sys.executable, "-I", "-S", "-c", code, options=("--exact",))
        run = replace(run, by="allocated", top=3000)
        assert run.outcome.stdout == b"1000\n"
        assert run.sum("allocated_bytes", "work") > 1_000_000


def test_a_private_allocator_is_noted(sizes: Path, tmp_path: Path, traced: Run) -> None:
    """With jemalloc linked in, the recording has its mappings and a note on what is missing."""
    archive = library("libjemalloc.a")
    source = sizes.with_suffix(".c")
    libraries = (str(archive), "-lpthread", "-lm", "-ldl", "-lstdc++")
    program = compile_with("gcc", tmp_path / "static", source, *libraries)
    run = trace(tmp_path / "s.atlas", (program,))
    assert "contains jemalloc" in " ".join(run.report["notes"])
    assert "a malloc() of its own" in run.report["processes"][0]["note"]
    mapped = [stack for stack in run.report["stacks"] if stack["kind"] == "mmap"]
    assert sum(stack["peak_bytes"] for stack in mapped) > 30_000_000


def test_python_has_no_private_allocator(traced: Run) -> None:
    """Python 3.13 and later contain mimalloc without using it, and get no note."""
    run = traced("/usr/bin/env", sys.executable, "-c", "print()")
    assert not [note for note in run.report["notes"] if "contains" in note]
