"""Blocks of jemalloc, mimalloc and tcmalloc, found from outside, against programs that know theirs."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from heap_programs import PROGRAMS, compile_program, waiting
from interpreters import with_mimalloc, without_gil
from mematlas._core import TypeKind
from mematlas.errors import UnsupportedError
from mematlas.heap import look
from mematlas.heap.read.content import CopiedContent
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.heap import Look

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
THREADS, BLOCKS = 5, 3000
STATIC = ("-Wl,--whole-archive", "-l:libjemalloc.a", "-Wl,--no-whole-archive", "-lm", "-lstdc++")


@cache
def _library(name: str) -> Path:
    """Return the path of an allocator's library, or skip the test."""
    found = sorted(LIBRARIES.glob(f"{name}.so.*"))
    if not found:
        pytest.skip(f"{name} is not installed")
    return found[0]


@contextmanager
def _running(program: Path, known: Path, blocks: int, library: Path | None) -> Iterator[int]:
    """Run the program until its blocks are made, and yield its PID."""
    environment = {**os.environ, "LD_PRELOAD": str(library) if library else ""}
    with subprocess.Popen(
        [program, known, str(THREADS), str(blocks)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def _look(program: Path, known: Path, blocks: int, library: Path | None) -> tuple[Look, int]:
    """Return the heap, and how many blocks are not the program's own. Each of those is found once."""
    with _running(program, known, blocks, library) as pid:
        heap = look(pid)
    found = set()
    pairs = list(struct.iter_unpack("<QQ", known.read_bytes()))
    for address, size in pairs:
        block = heap.find(address)
        assert block is not None, hex(address)
        start = int(heap.address[block])
        # Of a block with an alignment, the program may know a place inside.
        assert start + int(heap.size[block]) >= address + size
        found.add(block)
    assert len(found) == len(pairs)
    return heap, len(heap) - len(found)


@pytest.mark.parametrize(
    "way", ["libjemalloc", "static libjemalloc", "libmimalloc", "libtcmalloc_minimal"]
)
def test_blocks_are_those_that_the_program_knows(way: str, tmp_path: Path) -> None:
    """Blocks of all sizes and threads are found, and none that was freed: by its thread, another one, or before it ended."""
    static = way.startswith("static")
    library = None if static else _library(way)
    if static and not (LIBRARIES / "libjemalloc.a").exists():
        pytest.skip("libjemalloc-dev is not installed")
    program = compile_program("known_blocks.c", tmp_path, STATIC if static else ())
    heap, others = _look(program, tmp_path / "known", BLOCKS, library)
    _, others_of_few = _look(program, tmp_path / "few", 1, library)
    # The C library's own: one a thread that runs, and what libstdc++ reserves.
    assert others == others_of_few
    assert others <= THREADS + 3
    (sums,) = heap.allocators.values()
    assert sums.copies == 1
    assert sums.refused == sums.torn == sums.missing_caches == 0
    assert sums.told == sums.counted > THREADS * BLOCKS / 2
    assert sums.cached_blocks > 100
    assert heap.findings_total == 0, heap.findings
    assert heap.glibc.chunks < 100


def test_redis_holds_its_keys(tmp_path: Path) -> None:
    """A real server: each value is one block of the size class, and all hang on one variable of its file."""
    server, client = "/usr/bin/redis-server", "/usr/bin/redis-cli"
    if not Path(server).exists():
        pytest.skip("redis-server is not installed")
    socket, keys = tmp_path / "redis.sock", 4000
    with subprocess.Popen(
        [server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            script = f'for i=1,{keys} do redis.call("set","key:"..i,string.rep("v",200)..i) end'
            command = [client, "-s", str(socket), "eval", script, "0"]

            def has_answered() -> bool:
                assert process.poll() is None
                run = subprocess.run(command, capture_output=True, check=False, timeout=60)
                return run.returncode == 0 and b"onnect" not in run.stdout + run.stderr

            wait_until(has_answered, "the server to answer")
            heap = look(process.pid)
        finally:
            process.kill()
    if "jemalloc" not in heap.allocators:
        pytest.skip("this redis-server does not use jemalloc")
    values = int((heap.size == 224).sum())
    assert keys <= values <= keys + 20
    assert heap.dominators(top=3)[0].retained > keys * (224 + 32)
    sums = heap.allocators["jemalloc"]
    assert (sums.refused, sums.torn, sums.missing_caches) == (0, 0, 0)
    assert sums.told == sums.counted


def test_mimalloc_inside_pyarrow(tmp_path: Path) -> None:
    """A private mimalloc 3 in a library: exactly the buffers that the program has."""
    pytest.importorskip("pyarrow")
    program, told = tmp_path / "buffers.py", tmp_path / "told"
    program.write_text(
        "import os, pyarrow as pa, struct, sys\n"
        "try:\n    pool = pa.mimalloc_memory_pool()\n"
        "except NotImplementedError:\n    sys.exit(3)\n"
        "made = [pa.allocate_buffer(1 + i * 37 % 9000, memory_pool=pool) for i in range(9000)]\n"
        "kept = made[::3]\ndel made\n"
        "pairs = b''.join(struct.pack('<QQ', each.address, each.size) for each in kept)\n"
        "open(sys.argv[1], 'wb').write(pairs)\n"
        "print(os.getpid(), flush=True)\nsys.stdin.readline()\n"
    )
    with waiting([sys.executable, program, told]) as pid:
        heap = look(pid)
    sums = heap.allocators["mimalloc"]
    pairs = list(struct.iter_unpack("<QQ", told.read_bytes()))
    assert sums.blocks == len(pairs) == 3000
    assert sums.told == sums.counted
    assert (sums.refused, sums.torn) == (0, 0)
    for address, size in pairs:
        block = heap.find(address)
        assert block is not None
        assert int(heap.address[block]) == address
        assert int(heap.size[block]) >= size


@pytest.mark.parametrize(
    "python", [each for each in with_mimalloc() if each not in without_gil()] or [""]
)
def test_python_with_mimalloc(python: str, tmp_path: Path) -> None:
    """Objects in CPython's own mimalloc are found, and those that were freed are not."""
    if not python:
        pytest.skip("no CPython from 3.13 on is here")
    command = [python, str(PROGRAMS / "heap_python.py"), str(tmp_path / "told.json")]
    with waiting(command, {**os.environ, "PYTHONMALLOC": "mimalloc"}) as pid:
        heap = look(pid)
    _check_mimalloc(heap)
    assert heap.why("__main__.Order").paths[0].names[:3] == ("module __main__", "CACHE", "dict")
    assert int(np.sum(heap.type_names.index("__main__.Order") == heap.type)) > 0


def _check_mimalloc(heap: Look) -> None:
    sums = heap.allocators["mimalloc"]
    assert sums.told == sums.counted > 1000
    assert sums.torn == sums.refused == 0


@pytest.mark.parametrize("python", without_gil() or [""])
def test_python_without_the_gil(python: str, tmp_path: Path) -> None:
    """As many objects of each type as gc.get_objects() counts: those that the collector tracks, less the immortal."""
    if not python:
        pytest.skip("no CPython without the GIL is here: $MEMATLAS_PYTHONS names one")
    told = tmp_path / "told.json"
    with waiting([python, str(PROGRAMS / "heap_python.py"), str(told)]) as pid:
        heap = look(pid)
    _check_mimalloc(heap)
    counts = {int(key): row for key, row in json.loads(told.read_text())["counts"].items()}
    found, content = dict.fromkeys(counts, 0), heap.content
    assert isinstance(content, CopiedContent)
    keys = [key if kind is TypeKind.PYTHON else 0 for kind, key in content.handle.types()]
    for address, number in zip(heap.address.tolist(), heap.type.tolist(), strict=True):
        if keys[number] in found:
            before = 0 if content.image.read_word(address + 24) == keys[number] else 16
            bits, local = struct.unpack("<3xBI", content.image.read(address + before + 8, 8) or b"")
            found[keys[number]] += bits & 1 and local != 2**32 - 1
    # The program kept the last dict of its counts while it counted anew.
    different = {
        name: (count, found[key])
        for key, (name, count, _) in counts.items()
        if abs(count - found[key]) > (name == "dict")
    }
    assert different == {}, different
    with pytest.raises(UnsupportedError, match="without the GIL"):
        heap.waste()
