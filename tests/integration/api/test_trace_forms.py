"""`mematlas.trace()` as a decorator, from start() to stop(), and in coroutines."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import asyncio, json, mematlas
kept = []

def held(traced):
    return max(stack.peak_bytes for stack in traced.report().stacks) >> 20
"""


def answer(folder: Path, code: str) -> Any:
    """Run code in a process of its own, and return its output, parsed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_function_is_traced_at_each_call(tmp_path: Path) -> None:
    """Each call has a recording; a call within another is part of it; results and errors pass through."""
    found = answer(
        tmp_path,
        """
@mematlas.trace("load.atlas", exact=True)
def load(megabytes, deeper=0):
    "Return data."
    data = bytes(megabytes << 20)
    if deeper:
        load(deeper)
    if megabytes == 13:
        raise KeyError("unlucky")
    return len(data)

sizes, names = [load(10), load(3, 20)], []
first = load.traced.path
try:
    load(13)
except KeyError:
    names.append(load.traced.path)
try:
    @mematlas.trace()
    def generate():
        yield 1
except mematlas.UsageError as error:
    names.append(str(error))
print(json.dumps([sizes, load.__name__, load.__doc__, first, names,
                  held(mematlas.open("load.atlas")), held(mematlas.open("load.2.atlas"))]))
""",
    )
    assert found[0] == [10 << 20, 3 << 20]
    assert found[1:4] == ["load", "Return data.", "load.2.atlas"]
    assert found[4][0] == "load.3.atlas"
    assert "generator" in found[4][-1]
    assert found[5:] == [10, 20]


def test_coroutines_are_traced_to_their_end(tmp_path: Path) -> None:
    """A decorated coroutine function and `async with` hold what ran while they were awaited."""
    found = answer(
        tmp_path,
        """
@mematlas.trace("first.atlas", exact=True)
async def load(megabytes):
    await asyncio.sleep(0.01)
    data = bytes(megabytes << 20)
    await asyncio.sleep(0.01)
    return len(data)

async def main():
    size = await load(12)
    async with mematlas.trace("second.atlas", exact=True) as traced:
        task = asyncio.create_task(asyncio.sleep(0.01))
        kept.append(bytes(7 << 20))
        await task
    return [size, held(load.traced), held(traced)]

print(json.dumps(asyncio.run(main())))
""",
    )
    assert found == [12 << 20, 12, 7]


def test_start_and_stop(tmp_path: Path) -> None:
    """start() and stop() are a block without `with`; a second stop() is an error."""
    found = answer(
        tmp_path,
        """
traced = mematlas.trace("cells.atlas", exact=True)
errors = []
try:
    traced.stop()
except mematlas.UsageError as error:
    errors.append(str(error))
traced.start()
kept.append(bytes(9 << 20))
same = traced.stop() is traced
try:
    traced.stop()
except mematlas.UsageError as error:
    errors.append(str(error))
print(json.dumps([held(traced), same, len(errors)]))
""",
    )
    assert found == [9, True, 2]


def test_a_module_of_the_working_directory_does_not_stop_the_recorder(tmp_path: Path) -> None:
    """The recorder does not import what the program's directory happens to have."""
    for name in ("json", "signal", "select"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by the recorder')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import mematlas\nwith mematlas.trace('a.atlas'): pass"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.atlas").exists()


def test_a_call_that_cannot_be_traced_is_none(tmp_path: Path) -> None:
    """`traced` stays that of the last call that has a recording; renamed files are seen in any later report."""
    found = answer(
        tmp_path,
        """
from mematlas.api.cell_views import rename_files

@mematlas.trace("load.atlas", exact=True)
def load():
    kept.append(bytes(5 << 20))

load()
first, problem = load.traced, ""
with mematlas.trace("whole.atlas"):
    try:
        load()
    except mematlas.UsageError as error:
        problem = str(error)

def files(report):
    return {frame.file for stack in report.stacks for frame in stack.frames}

before = first.report()
rename_files(first.recording, {"<string>": "In [7]"})
after = first.report()
print(json.dumps([load.traced is first, problem, "<string>" in files(before),
                  "<string>" in files(after), "In [7]" in files(after), before.notes]))
""",
    )
    assert found[0]
    assert "traced already" in found[1]
    assert found[2:5] == [True, False, True], found[5]
