"""Programs that change their user, root directory or namespaces: followed, with the PIDs mematlas sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine_state import NOBODY
from mematlas.tracing.child import library
from traced_runs import MEMATLAS, ask, bare, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
ids = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
WAYS = {
    "PID namespace": ("unshare", "-pf", "--mount-proc"),
    "user, mount and PID namespaces": ("unshare", "-Urmpf", "--mount-proc"),
    "network namespace": ("unshare", "-n"),
    "all namespaces": ("unshare", "-Urmpfniu", "--mount-proc"),
    "setpriv": ("setpriv", *ids),
    "setpriv in a network namespace": ("unshare", "-n", "setpriv", *ids),
    "chroot --userspec": ("chroot", f"--userspec={NOBODY}:{NOBODY}", "/"),
    "runuser": ("runuser", "-u", "nobody", "--"),
    "bwrap": ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
    "firejail": ("firejail", "--quiet", "--noprofile"),
}
HELD = 20 * 3 * 1000


@pytest.fixture
def program(build: Build) -> Iterator[Path]:
    """Build the program where everybody may read it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(shutil.copy(build("hostile", "-pthread"), name))


def works(command: tuple[str, ...]) -> bool:
    """Return whether this machine lets us run the command."""
    if not shutil.which(command[0]):
        return False
    ran = subprocess.run([*command, "/bin/true"], capture_output=True, check=False)
    return ran.returncode == 0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
def test_followed(
    program: Path, tmp_path: Path, way: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """The program has its memory by line, and its RSS is its own."""
    if not works(way):
        pytest.skip(f"{way[0]} is not installed, or not allowed here")
    command: tuple[str | Path, ...] = (*way, program, "threads", "20")
    run = trace(tmp_path / "n.atlas", command, *options)
    assert run.outcome == bare(command)
    assert "ld.so" not in run.stderr
    (traced,) = (
        each for each in run.report["processes"] if each["command"].startswith(str(program))
    )
    assert traced["note"] == ""
    assert traced["pid"] > 2
    assert traced["ending"] == "exited 0"
    assert 1 << 20 < traced["peak_rss_bytes"] < 1 << 30
    if options:
        assert run.left("live_bytes", "keep") == HELD


def test_the_library_is_out_of_reach(program: Path, tmp_path: Path) -> None:
    """A tracer below a folder that the new user may not enter is loaded from a descriptor."""
    if not works(WAYS["setpriv"]):
        pytest.skip("setpriv is not installed")
    with tempfile.TemporaryDirectory() as name:  # mode 0700, as a home may be
        hidden = Path(shutil.copy(library(), name))
        code = (
            "import sys; from mematlas.tracing import child, follow; from mematlas.cli import main\n"
            f"child.library = follow.library = lambda: {str(hidden)!r}\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        ways = [WAYS[way] for way in ("setpriv", "setpriv in a network namespace", "runuser")]
        # The program between was loaded with a descriptor's tracer, and hands that on.
        ways += [(*WAYS["setpriv"], "unshare", "-Ur"), WAYS["PID namespace"]]
        for way in ways:
            if not works(way):
                continue
            file = tmp_path / "h.atlas"
            command = (*way, str(program), "threads", "20")
            ran = subprocess.run(
                [MEMATLAS[0], "-c", code, "run", "--exact", "-o", file, "--", *command],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (ran.returncode, ran.stdout) == (0, "fine\n"), ran.stderr
            assert "ld.so" not in ran.stderr
            found = trace_of(file)
            assert any(str(program) in each for each in found), (way, found)


def trace_of(file: Path) -> list[str]:
    """Return the commands of the traced processes of a recording."""
    return [each["command"] for each in ask("report", str(file), "--json")["processes"]]
