"""Rounds of an unprivileged user against root's mematlas: MEMATLAS_HOSTILE_ROUNDS of each kind.

No round may crash or hang mematlas, make it print a traceback, need 500 MB, or change a file of root.
`scripts/hostile` runs 500.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import synthetic_recording
from machine_state import NOBODY
from mematlas.cli.main import main
from mematlas.recording import format as atlas
from mematlas.recording import reader
from traced_runs import MEMATLAS
from tracked_files import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Build

CHILD_LIMIT_S = 300
ROUNDS = int(os.environ.get("MEMATLAS_HOSTILE_ROUNDS", "13"))  # 13: each way of scribbles.c once
MOST_BYTES = 500_000_000
HANGS_S = 120  # a machine may be busy
SECRET = b"root's own\n"
WILD: tuple[Any, ...] = (
    0, -1, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 63), 10**30, 1e308, -1e308, 0.5, 1e-300,
    "", "x" * 1000, "\x1b[31m", "/dev/zero", None, True, [], [[]], {}, {"a": 1},
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whom nobody attacks"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
]


@pytest.fixture
def arena() -> Iterator[Path]:
    """Make a directory that everybody may read, with a pipe, and a secret of root that must stay."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        os.mkfifo(path / "pipe", 0o666)
        (path / "secret").write_bytes(SECRET)
        (path / "secret").chmod(0o600)
        before = (path / "secret").stat()
        yield path
        after = (path / "secret").stat()
        assert (path / "secret").read_bytes() == SECRET
        assert (after.st_uid, after.st_mode, after.st_ctime) == (0, before.st_mode, before.st_ctime)


def as_nobody(*command: str | Path) -> list[str]:
    """Return a command that becomes nobody first."""
    user = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    return [*user, *map(str, command)]


def watched(command: list[str]) -> tuple[int, str, int]:
    """Run a command; return its status, what it printed, and the peak of its own RSS in bytes."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + HANGS_S
        peak = 0
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"hangs: {command}")
            peak = max(peak, peak_rss(process.pid))
            time.sleep(0.02)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return process.returncode, said, peak


def peak_rss(pid: int) -> int:
    """Return VmHWM in bytes; 0 for a zombie. ru_maxrss counts the memory shared by vfork(), too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) << 10 if found else 0


def test_programs_that_scribble(build: Build, arena: Path) -> None:
    """A traced program writes anything into shared memory and sockets; its own status is kept."""
    include = f"-I{ROOT / 'native/include'}"
    program = shutil.copy(build("scribbles", include), arena)
    file = arena / "a.atlas"
    for seed in range(ROUNDS):
        options = ["--exact"] if seed % 2 else []
        command = as_nobody(program, str(seed), arena / "pipe")
        status, said, used = watched([*MEMATLAS, "run", *options, "-o", str(file), "--", *command])
        assert "Traceback" not in said, f"seed {seed}: {said}"
        assert status == (137 if seed % 5 == 0 else 6), f"seed {seed}: {status}\n{said}"
        assert used < MOST_BYTES, f"seed {seed}: {used} bytes"
        assert "\x1b" not in said.replace("\x1b[0m", ""), f"seed {seed}"
        status, said, used = watched([*MEMATLAS, "report", str(file)])
        assert (status, "Traceback" in said) == (0, False), f"seed {seed}: {said}"
        assert used < MOST_BYTES, f"seed {seed}: {used} bytes"


def test_programs_that_scribble_while_attached_to(build: Build, arena: Path) -> None:
    """Root attaches to a program of nobody that plants links to root's file wherever it may."""
    program = shutil.copy(build("plants_links"), arena)
    with subprocess.Popen(
        [program, arena / "secret"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        user=NOBODY,
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        for number in range(max(ROUNDS // 10, 2)):
            options = ["--duration", "100ms", "-o", str(arena / "b.atlas")]
            _, said, used = watched([*MEMATLAS, "attach", str(victim.pid), *options])
            assert "Traceback" not in said, f"round {number}: {said}"
            assert used < MOST_BYTES
        victim.communicate()
        assert victim.returncode == 5


def chunks() -> list[tuple[bytes, dict[str, Any], bytes]]:
    """Split a synthetic recording into chunks."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        synthetic_recording.write_every_chunk(path)
        with path.open("rb") as file:
            file.read(atlas.START.size)
            found = list(reader._chunks(file))
    unpacked = [(kind, *atlas.unpack_chunk(flags, payload)) for kind, flags, payload in found]
    return [(k, facts, bytes(rows)) for k, facts, rows in unpacked if isinstance(rows, memoryview)]


def damaged(source: random.Random, value: Any) -> Any:
    """Return a JSON value of which one part is another."""
    if isinstance(value, dict) and value and source.random() < 0.8:
        key = source.choice(sorted(value))
        return {**value, key: damaged(source, value[key])}
    if isinstance(value, list) and value and source.random() < 0.8:
        at = source.randrange(len(value))
        return [*value[:at], damaged(source, value[at]), *value[at + 1 :]]
    return source.choice(WILD)


def damaged_recording(source: random.Random) -> bytes:
    """Return a recording with valid checksums of which one chunk, or any byte, is another."""
    found = chunks()
    for _ in range(source.choice((1, 1, 3))):
        at = source.randrange(len(found))
        kind, facts, rows = found[at]
        if rows and source.random() < 0.4:
            place = source.randrange(len(rows))
            rows = rows[:place] + source.randbytes(8) + rows[place + 8 :]
            rows = rows[: len(found[at][2])]
        else:
            facts = damaged(source, facts)
        found[at] = (kind, facts, rows)
    if source.random() < 0.2:
        source.shuffle(found)
    whole = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0)
    whole += b"".join(atlas.pack_chunk(*each) for each in found)
    return whole if source.random() < 0.8 else whole[: source.randrange(len(whole))]


def in_child(command: list[str], printed: Path) -> int:
    """Run a command of mematlas in a forked child with 2 GiB of address space; return its status.

    A child that does not end dies of SIGALRM.
    """
    child = os.fork()
    if child == 0:
        status = 97
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's time limit has a handler
            signal.setitimer(signal.ITIMER_REAL, CHILD_LIMIT_S)
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
            with printed.open("w") as file, redirect_stderr(file), redirect_stdout(file):
                status = main(command)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_recordings_of_a_stranger(arena: Path) -> None:
    """Every view and export of a damaged recording ends by itself, in an error of one line at most."""
    file, printed, out = arena / "s.atlas", arena / "printed", str(arena / "out")
    whole = arena / "whole.atlas"
    synthetic_recording.write_every_chunk(whole)
    commands = [["report", "FILE"], ["report", "FILE", "--json"], ["leaks", "FILE"]]
    commands += [["report", "FILE", "-o", str(arena / "page.html")], ["diff", "FILE", str(whole)]]
    commands += [["merge", "FILE", str(whole), "-o", str(arena / "m.atlas")], ["doctor", "FILE"]]
    commands += [["export", "FILE", "--to", to, "-o", out] for to in ("chrome", "pprof", "csv")]
    for seed in range(ROUNDS * 2):
        source = random.Random(seed)
        try:
            file.write_bytes(damaged_recording(source))
        except (
            TypeError,
            ValueError,
            OverflowError,
            AttributeError,
        ):  # the writer needs numbers of some facts
            continue
        for command in source.sample(commands, 3):
            named = [str(file) if word == "FILE" else word for word in command]
            status = in_child(named, printed)
            assert status in range(6), f"seed {seed}: {command}: {printed.read_text()}"
