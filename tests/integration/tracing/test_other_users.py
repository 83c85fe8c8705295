"""Root traces a program of another user, who wants root's rights: nothing of that user is believed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attachments import recorded
from machine_state import NOBODY
from mematlas.tracing.attachment import Attachment
from traced_runs import MEMATLAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Build

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who traces a program of nobody"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone"),
]
SECRET = b"root's own\n"
CLAIMS = """
import os, shutil, socket, sys
sys.stdin.readline()
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(f"\\0mematlas-attach.{sys.argv[1]}.0123456789abcdef")
listener.listen()
directory = f"/dev/shm/mematlas-evil{os.getpid()}"
shutil.rmtree(directory, ignore_errors=True)  # of an earlier process with this PID
os.mkdir(directory, 0o755)
os.mkfifo(directory + "/lock")
open(directory + "/attached", "w").write(f"{sys.argv[1]} {sys.argv[2]}\\n")
print("ready", flush=True)
sys.stdin.readline()
for name in ("lock", "attached"):
    os.unlink(f"{directory}/{name}")
os.rmdir(directory)
"""


SERVER = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
worker = os.fork()
while worker == 0:
    bytearray(10000)
    time.sleep(0.01)
print(worker, flush=True)
while True:
    if os.fork() == 0:
        time.sleep(0.02)
        os._exit(0)
    time.sleep(0.01)
"""
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""  # the tests' own may be root's alone


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a directory that everybody may read."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """Make a file of root that nobody else may read, and check at the end that nothing changed it."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    before = path.stat()
    yield path
    after = path.stat()
    assert path.read_bytes() == SECRET
    assert (after.st_uid, after.st_mode, after.st_size) == (0, before.st_mode, len(SECRET))


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that no signal must reach."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()


def test_links_in_place_of_the_session_files(
    build: Build, secret: Path, tmp_path: Path, public: Path
) -> None:
    """A traced program of nobody that plants links wherever it can changes no file of root."""
    program = subprocess.Popen(
        [shutil.copy(build("plants_links"), public), secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        user=NOBODY,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    for number in range(3):
        output = str(tmp_path / f"{number}.atlas")
        subprocess.run(
            [*MEMATLAS, "attach", str(program.pid), "--duration", "200ms", "-o", output],
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )
    program.communicate()
    assert program.returncode == 5


@pytest.mark.skipif(not PYTHON, reason="needs a python3 that nobody may run")
@pytest.mark.parametrize("uid", [0, NOBODY], ids=["root's program", "nobody's program"])
def test_forged_claims_of_an_attachment(uid: int, bystander: subprocess.Popen[bytes]) -> None:
    """`mematlas detach` signals no process that another user named, and waits for none of its files."""
    with subprocess.Popen(["sleep", "600"], user=uid) as target:
        command = [PYTHON, "-c", CLAIMS, str(target.pid), str(bystander.pid)]
        with subprocess.Popen(
            command, user=NOBODY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as claimer:
            assert claimer.stdin is not None
            assert claimer.stdout is not None
            claimer.stdin.write(b"\n")
            claimer.stdin.flush()
            assert claimer.stdout.readline() == b"ready\n"
            ran = subprocess.run(
                [*MEMATLAS, "detach", str(target.pid)],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if uid == 0:
                assert ran.returncode == 3, ran.stderr
                assert "not traced" in ran.stderr
                assert claimer.poll() is None
            if claimer.poll() is None:
                claimer.communicate(b"\n")
        shutil.rmtree(f"/dev/shm/mematlas-evil{claimer.pid}", ignore_errors=True)
        target.kill()


@pytest.mark.skipif(not PYTHON, reason="needs a python3 that nobody may run")
def test_a_tree_of_another_user(tmp_path: Path) -> None:
    """Root enters all processes of a server of nobody, whose short workers end meanwhile."""
    file = tmp_path / "a.atlas"
    with subprocess.Popen(
        [PYTHON, "-c", SERVER], user=NOBODY, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        lasting = {server.pid, int(server.stdout.readline())}
        try:
            ran = subprocess.run(
                [*MEMATLAS, "attach", "--tree", str(server.pid), "--duration", "500ms", "-o", file],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert ran.returncode == 0, ran.stderr
            assert not re.findall(rf"not traced: PID ({'|'.join(map(str, lasting))}) ", ran.stderr)
            found = recorded(file).report["processes"]
            assert lasting <= {each["pid"] for each in found}
            assert server.poll() is None
        finally:
            for pid in lasting:
                os.kill(pid, signal.SIGKILL)


def test_detach_by_root_of_an_attachment_of_a_user() -> None:
    """Root ends what another user attached to that user's own program."""
    with subprocess.Popen(["sleep", "600"], user=NOBODY) as target:
        ready, written = os.pipe()
        user = os.fork()
        if user == 0:
            try:
                os.setuid(NOBODY)
                with Attachment(target.pid):
                    os.write(written, b"x")
                    time.sleep(600)
            except KeyboardInterrupt:
                os._exit(130)
            finally:
                os._exit(1)
        try:
            assert os.read(ready, 1) == b"x"
            ran = subprocess.run([*MEMATLAS, "detach", str(target.pid)], check=False, timeout=120)
            assert ran.returncode == 0
        finally:
            target.kill()
            os.kill(user, signal.SIGKILL)
            ended = os.waitstatus_to_exitcode(os.waitpid(user, 0)[1])
            os.close(ready)
            os.close(written)
        assert ended == 130
