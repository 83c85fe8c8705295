"""Code of JIT compilers under `mematlas run`: named, and unwound beyond."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from traced_runs import trace

if TYPE_CHECKING:
    from conftest import Build, Run
    from traced_runs import Traced

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the code of the test program is x86-64"
)


def remove_maps(run: Traced) -> None:
    """Remove the maps that the programs left in /tmp: a later process may get such a PID."""
    for process in run.report["processes"]:
        Path(f"/tmp/perf-{process['pid']}.map").unlink(missing_ok=True)


@pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])
def test_frames_of_a_jit_are_named_and_passed(
    build: Build, traced: Run, options: tuple[str, ...]
) -> None:
    """The stack goes on to main, with and without a frame pointer, and the map gives the names."""
    run = traced(build("jit"), options=options)
    remove_maps(run)
    assert run.outcome.status == 0
    for code, caller, count in (
        ("app::framed code", "calls_framed", 12),
        ("app.Frameless.run", "calls_frameless", 8),
    ):
        short = code.rpartition(".")[2]
        for stack in run.stacks(short):
            names = [frame["function"] for frame in stack["frames"]]
            assert names[names.index(code) :][:3] == [code, caller, "main"]
        assert run.sum("live_bytes", short) == pytest.approx(
            count << 20, rel=0.5 if not options else 0
        )


def test_a_map_in_another_namespace(build: Build, tmp_path: Path) -> None:
    """The map is that of the PID inside, in the /tmp inside."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root for namespaces")
    program = f"/dev/shm/mematlas-test-jit-{os.getpid()}"  # outside of the /tmp that is hidden
    command = f"mount -t tmpfs none /tmp && {program}"
    unshare = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    shutil.copy(build("jit"), program)
    try:
        run = trace(tmp_path / "a.atlas", (*unshare, command), "--exact")
    finally:
        Path(program).unlink()
    assert run.sum("live_bytes", "app::framed code") == 12 << 20


def test_a_map_that_is_no_file_of_the_process_is_not_read(
    build: Build, traced: Run, tmp_path: Path
) -> None:
    """A link instead of the map is not followed."""
    script = f"""
import os
link = "/tmp/perf-%d.map" % os.getpid()
if os.path.lexists(link):  # of an earlier process with this PID
    os.unlink(link)
os.symlink({str(tmp_path / "elsewhere")!r}, link)
os.execv({str(build("jit"))!r}, ["jit", {str(tmp_path / "elsewhere")!r}])
"""
    run = traced(sys.executable, "-S", "-c", script, options=("--exact",))
    remove_maps(run)
    assert (tmp_path / "elsewhere").exists()
    assert not run.stacks("app::framed code")
    assert run.sum("live_bytes", "calls_framed") == 12 << 20  # unwound nevertheless


def test_node_names_its_functions(traced: Run, tmp_path: Path) -> None:
    """With --perf-basic-prof, a function of JavaScript owns its buffers."""
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    script = tmp_path / "app.js"
    script.write_text(
        "const kept = [];\n"
        "function holdMuch(n) { for (let i = 0; i < n; i++) kept.push(new Array(1000).fill(i)); }\n"
        "for (let k = 0; k < 40; k++) holdMuch(200);\n"
    )
    log = ("--no-logfile-per-isolate", f"--logfile={tmp_path / 'v8.log'}")  # not into this folder
    run = traced(node, "--perf-basic-prof", *log, str(script))
    remove_maps(run)
    found = run.stacks("holdMuch")
    assert found
    frame = next(f for f in found[0]["frames"] if f["function"] == "holdMuch")
    assert (frame["file"], frame["line"]) == (str(script), 2)
