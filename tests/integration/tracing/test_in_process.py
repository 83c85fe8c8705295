"""`with mematlas.trace()`: a traced block of the program's own code."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from mematlas.errors import MematlasError
from mematlas.recording import read
from mematlas.report.analyse.report import make_report
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import json, os, signal, sys, threading, time
import mematlas
kept = []

def before(): kept.append([bytes(3000) for _ in range(2000)])
def inside(): kept.append([bytes(5000) for _ in range(2000)])
def objects(): kept.append([object() for _ in range(100_000)])
def others(): kept.append([bytearray(4000) for _ in range(500)])
def after(): kept.append([bytes(7000) for _ in range(1000)])

def held(report, function):
    return sum(
        stack.live_bytes for stack in report.stacks
        if any(frame.function.rpartition(".")[2] == function for frame in stack.frames)
    )
"""


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run BEGIN and code in a new process."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", BEGIN + code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(code: str, tmp_path: Path) -> Any:
    """Run code and return its output, parsed as JSON."""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_block_has_what_was_allocated_in_it(tmp_path: Path) -> None:
    """Allocations of all threads in the block are recorded, and nothing from before or after it."""
    found = answer(
        """
before()
with mematlas.trace("block.atlas", exact=True) as traced:
    inside()
    objects()
    thread = threading.Thread(target=others)
    thread.start()
    thread.join()
    del kept[0]  # of before
after()
report = traced.report()
print(json.dumps([
    {name: held(report, name) for name in ("before", "inside", "objects", "others", "after")},
    len(report.bad_frees), report.processes[0].ending, report.account.unexplained_bytes,
    sum(part.resident_bytes for part in report.account.parts), report.account.rss_bytes,
    report.complete, [line.live_bytes for line in traced.leaks().leaks][:1],
]))
""",
        tmp_path,
    )
    by_function, bad, ending, unexplained, parts, rss, complete, _ = found
    assert by_function["before"] == by_function["after"] == 0
    assert 10_000_000 <= by_function["inside"] <= 10_200_000
    assert 1_600_000 <= by_function["objects"] <= 3_000_000
    assert 2_000_000 <= by_function["others"] <= 2_200_000
    assert (bad, ending, complete) == (0, "detached", True)
    assert parts + unexplained == rss


def test_blocks_one_after_the_other(tmp_path: Path) -> None:
    """Two blocks have their own recordings; a block inside another is refused."""
    found = answer(
        """
got = []
for number in range(6):
    with mematlas.trace(f"{number}.atlas", sample_bytes=20_000) as traced:
        inside()
        try:
            with mematlas.trace("nested.atlas"):
                pass
        except mematlas.errors.UsageError as error:
            refused = str(error)
    kept.clear()
    got.append(held(traced.report(), "inside"))
print(json.dumps([got, refused]))
""",
        tmp_path,
    )
    got, refused = found
    samples = 10_000_000 / 20_000
    for size in got:
        assert abs(size / 10_000_000 - 1) <= 4 / samples**0.5 + 0.02
    assert "traced already" in refused


def test_allocators_are_given_back(tmp_path: Path) -> None:
    """After the block no GOT slot refers to the tracer, and Python's allocators are restored."""
    found = answer(
        """
import ctypes, re
class Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]
def allocators():
    found = []
    for domain in range(3):
        one = Allocator()
        ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(one))
        found.append([getattr(one, name) for name, _ in one._fields_])
    return found
def led_to():
    maps = [line.split() for line in open("/proc/self/maps")]
    own = [tuple(int(x, 16) for x in m[0].split("-")) for m in maps if m[-1].endswith("libmematlas_trace.so")]
    if not own: return 0
    low, high = min(a for a, _ in own), max(b for _, b in own)
    count = 0
    with open("/proc/self/mem", "rb") as memory:
        for line in maps:
            start, end = (int(x, 16) for x in line[0].split("-"))
            if not line[-1].startswith("/") or ".so" not in line[-1] and "python" not in line[-1]: continue
            if line[-1].endswith("libmematlas_trace.so") or not line[1].startswith("r") or "x" in line[1]: continue
            memory.seek(start)
            words = memoryview(memory.read(end - start)).cast("Q")
            count += sum(low <= word < high for word in words)
    return count
first = allocators()
with mematlas.trace("block.atlas", exact=True):
    during, slots = allocators(), led_to()
    inside()
    import decimal, sqlite3  # modules loaded since
    kept.append([decimal.Decimal(n) for n in range(5000)])
print(json.dumps([first == allocators(), first == during, slots, led_to(), threading.active_count()]))
""",
        tmp_path,
    )
    same_after, same_during, slots_during, slots_after, threads = found
    assert same_after
    assert not same_during
    assert slots_during > 20
    assert slots_after <= 3  # thread-end and fork handlers that the C library keeps
    assert threads == 1


def live_bytes(file: Path, function: str = "") -> float:
    """Return the live bytes below a function, or all of them, also while the recording is written."""
    try:
        report = make_report(read(file))
    except MematlasError:  # no file yet, or no first chunk
        return 0
    return sum(
        stack.live_bytes
        for stack in report.stacks
        if not function or any(frame.function == function for frame in stack.frames)
    )


def test_a_killed_program_leaves_a_recording(tmp_path: Path) -> None:
    """The recording of a killed program can be read."""
    file = tmp_path / "killed.atlas"
    code = (
        'with mematlas.trace("killed.atlas", exact=True, interval_s=0.1):\n'
        "    inside()\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + code], cwd=tmp_path, stdin=subprocess.PIPE
    ) as program:
        wait_until(lambda: live_bytes(file) >= 10_000_000, "a snapshot of the blocks")
        program.kill()
    wait_until(lambda: read(file).complete, "the end of the recording")
    assert 10_000_000 <= live_bytes(file, "inside") <= 10_200_000


def test_a_block_outlives_its_recorder(tmp_path: Path) -> None:
    """After the recorder is killed the program goes on, and gets an error that the recording is cut short."""
    found = answer(
        """
import subprocess
try:
    with mematlas.trace("cut.atlas", exact=True) as traced:
        inside()
        traced._recorder.kill()
        for _ in range(200):
            objects(); kept.pop()
except mematlas.errors.MematlasError as error:
    said = str(error)
print(json.dumps(said))
""",
        tmp_path,
    )
    assert "cut.atlas" in found


def test_forked_children_are_seen(tmp_path: Path) -> None:
    """A child forked in the block is a process of its own in the recording."""
    found = answer(
        """
with mematlas.trace("fork.atlas", exact=True) as traced:
    pid = os.fork()
    if pid == 0:
        others()
        os._exit(0)
    os.waitpid(pid, 0)
report = traced.report()
print(json.dumps([len(report.processes), [line.ending for line in report.processes]]))
""",
        tmp_path,
    )
    assert found[0] == 2
    assert "exited 0" in found[1]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The error names the recording, and the block does not run."""
    done = run('with mematlas.trace("no/such/place.atlas"):\n    print("ran")\n', tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no/such/place.atlas" in done.stderr.splitlines()[-1]
