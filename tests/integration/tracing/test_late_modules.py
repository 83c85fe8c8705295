"""Python and plugins that a program loads long after its start, under run and after an attach."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attachments import Obedient, attached, recorded
from interpreters import interpreters

if TYPE_CHECKING:
    from conftest import Build, Run

MODES = (("--sample-bytes", "16K"), ("--exact",))
both_modes = pytest.mark.parametrize("options", MODES, ids=["sampled", "exact"])
attaches = pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone")
LIBRARY = ("-shared", "-fPIC")
WHERE_IT_IS = """
import sys, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
print(sys.base_prefix, sysconfig.get_config_var("LIBDIR"), name, sep="\\n")
"""
ROWS, ROW_BYTES = 1000, 3000


@cache
def libpython(python: str) -> tuple[str, str]:
    """Return the shared library of an interpreter and the folder of its modules; skip if it has none."""
    said = subprocess.run([python, "-c", WHERE_IT_IS], capture_output=True, check=True, text=True)
    home, folder, name = said.stdout.splitlines()
    if ".so" not in name or not Path(folder, name).exists():
        pytest.skip(f"{python} has no shared library")
    return str(Path(folder, name)), home


def loads_late(build: Build, python: str = sys.executable) -> tuple[str | Path, ...]:
    """Build the program that loads Python and two plugins; return its command."""
    library, home = libpython(python)
    heap = build("own_heap", "-DHEAP", *LIBRARY)
    bound = build("plugin", *LIBRARY, "-Wl,--no-as-needed", str(heap))
    plugin = build("plugin", *LIBRARY)
    return "env", f"PYTHONHOME={home}", build("loads_late"), library, plugin, bound


@both_modes
@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).parts[-3])
def test_python_loaded_late(
    build: Build, traced: Run, python: str, options: tuple[str, ...]
) -> None:
    """Lines of a Python that dlopen() loaded own their memory; the program ends well after dlclose()."""
    run = traced(*loads_late(build, python), options=options, stdin=b"p\na\nc\nu\nq\n")
    assert run.outcome.status == 7
    seen = run.sum("allocated_bytes", "__init__")
    rows = 2 * ROWS * ROW_BYTES
    assert seen >= rows if "--exact" in options else seen > rows * 3 // 4
    assert all(
        frame["file"] == "<string>"
        for stack in run.stacks("allocate")
        for frame in stack["frames"]
        if frame["function"] == "allocate"
    )
    # Threads that never ran Python were traced all the same, with stacks of their own.
    others = run.sum("allocated_bytes", "in_thread")
    assert others == 4 * 100 * 5000 if "--exact" in options else others > 1_000_000
    assert not any(
        frame["file"] == "<string>"
        for stack in run.stacks("in_thread")
        for frame in stack["frames"]
    )


@attaches
def test_what_is_loaded_after_an_attach(build: Build, tmp_path: Path) -> None:
    """Plugins and Python that a program loads while attached are traced, each time they are loaded."""
    program, file = Obedient(*loads_late(build)), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact"):
        assert program.tell("u") == "done u 0\n"
        assert program.tell("u") == "done u 0\n"
        program.tell("p")
        assert program.tell("l") == "done l 0\n"
    program.tell("a")  # after the detach: not recorded
    program.tell("c")
    assert program.end() == (7, "")
    run = recorded(file)
    assert run.sum("allocations", "plugin_allocates") == 3 * 1000
    assert run.sum("allocated_bytes", "__init__") >= ROWS * ROW_BYTES
    assert run.sum("allocations", "in_thread", kind="malloc") == 4 * 100
    assert run.report["bad_frees"] == []


@attaches
def test_a_plugin_bound_to_its_own_allocator(build: Build, tmp_path: Path) -> None:
    """A plugin that calls an allocator of its own (RTLD_DEEPBIND) goes on calling it after an attach."""
    program, file = Obedient(*loads_late(build)), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact"):
        assert program.tell("o") == "done o 1000\n"
        assert (
            program.tell("o") == "done o 1000\n"
        )  # a thread has allocated, so modules were patched
    assert program.tell("o") == "done o 1000\n"
    assert program.end() == (7, "")
