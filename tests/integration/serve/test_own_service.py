"""`mematlas.serve()` in a program of its own, asked by HTTP clients."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mematlas
from collectors import http_collector
from exports import decode_pprof
from waiting import WAIT_S, wait_until

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK, BLOCKS = 4 << 20, 12  # so large that a sample has nearly all of them
PROGRAM = f"""
import json, os, sys, mematlas
arguments = json.loads(sys.argv[1])
kept = []
def load_orders():
    for _ in range({BLOCKS}):
        kept.append(bytearray({BLOCK}))
def tell(**facts):
    print(json.dumps(facts), flush=True)
service = mematlas.serve(**arguments)
load_orders()
tell(url=service.url, path=service.path)
for line in sys.stdin:
    if line == "fork\\n":
        child = os.fork()
        if not child:
            service.stop()
            os._exit(0)
        tell(status=os.waitpid(child, 0)[1])
    else:
        service.stop()
        service.stop()
        tell(stopped=True)
        with mematlas.trace(arguments.get("output", "") + "after.atlas", exact=True) as traced:
            kept.append(bytearray({BLOCK}))
        tell(live=traced.leaks().live_bytes)
"""


LAST = f"""
import sys, mematlas
service = mematlas.serve("", push=sys.argv[1:], push_interval_s=3600, sample_bytes=1)
kept = []
def load_last():
    for _ in range({BLOCKS}):
        kept.append(bytearray({BLOCK}))
load_last()
print(service.path)
if STOPS:
    service.stop()
"""


class Program:
    """A program that serves itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        first = self.hear()
        self.url, self.path = str(first["url"]), Path(first["path"])

    def hear(self) -> dict[str, Any]:
        """Return what the program tells next."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the program has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, word: str) -> dict[str, Any]:
        """Write a command to the program, and return its answer."""
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.hear()

    def get(self, path: str) -> bytes:
        """Return a page."""
        with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as answer:
            return bytes(answer.read())

    def is_there(self, path: str = "/healthz") -> bool:
        """Return whether a page is served."""
        try:
            return bool(self.get(path))
        except OSError:
            return False

    def holds(self) -> float:
        """Return the live bytes of the function, as /metrics has them."""
        rows = [
            line for line in self.get("/metrics").decode().splitlines() if "load_orders" in line
        ]
        return max((float(each.rpartition(" ")[2]) for each in rows), default=0.0)


@contextmanager
def program(folder: Path, **arguments: object) -> Iterator[Program]:
    """Run the program."""
    path = folder / "app.py"
    path.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, path, json.dumps({"address": "127.0.0.1:0", **arguments})],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
    ) as process:  # fmt: skip
        try:
            yield Program(process)
        finally:
            process.kill()


def test_the_pages_are_those_of_the_program(tmp_path: Path) -> None:
    """Its own lines, by each page; a forked child stops nothing; after the stop all is gone and tracing can begin again."""
    with program(tmp_path) as own:
        wait_until(lambda: own.is_there() and own.holds() > 0.9 * BLOCKS * BLOCK, "its figures")
        assert own.holds() < 1.1 * BLOCKS * BLOCK
        (tmp_path / "heap.pb.gz").write_bytes(own.get("/debug/pprof/heap"))
        profile = decode_pprof(tmp_path / "heap.pb.gz")
        assert "load_orders" in profile.string_table
        assert profile.period == 512 << 10  # sampled
        assert own.get("/debug/pprof/allocs")
        assert b"load_orders" in own.get("/report")
        (tmp_path / "copy.atlas").write_bytes(own.get("/recording"))
        assert mematlas.open(tmp_path / "copy.atlas").report().command[-2].endswith("app.py")
        assert own.path.is_dir()
        assert own.path.stat().st_mode & 0o777 == 0o700
        assert own.ask("fork") == {"status": 0}
        assert own.is_there()
        assert own.ask("stop") == {"stopped": True}
        assert not own.is_there()
        assert not own.path.exists()
        assert own.hear()["live"] >= BLOCK


def test_a_killed_program_leaves_neither_server_nor_folder(tmp_path: Path) -> None:
    """SIGKILL gives no time to stop anything."""
    with program(tmp_path) as own:
        wait_until(own.is_there, "its figures")
        own.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not own.is_there("/"), "the server has ended")
        wait_until(lambda: not own.path.exists(), "the folder is removed")


def test_a_unix_socket_and_a_recording_that_stays(tmp_path: Path) -> None:
    """The socket is of its user alone; the recording at `output` is complete."""
    place = tmp_path / "s"
    with program(tmp_path, address=f"unix:{place}", output=str(tmp_path / "kept")) as own:
        assert own.url == f"unix:{place}"
        assert place.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(str(place))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1 << 12), b""))
        assert b"/debug/pprof/heap" in answer
        assert own.ask("stop") == {"stopped": True}
        assert not place.exists()
        recording = mematlas.open(tmp_path / "kept")
    assert recording.complete
    live = sum(each.live_bytes for each in recording.report(at="end").stacks)
    assert live > 0.9 * BLOCKS * BLOCK


def test_beyond_the_machine_only_with_token_and_tls(tmp_path: Path) -> None:
    """Without both nothing begins; with both a client that has the token is served."""
    for given in (None, tmp_path / "token"):
        with pytest.raises(mematlas.UsageError, match="reached by other machines"):
            mematlas.serve("0.0.0.0:0", token_file=given)
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    key, certificate, token = tmp_path / "k.pem", tmp_path / "c.pem", tmp_path / "token"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    token.write_text("correct horse battery\n")
    token.chmod(0o600)
    files = {"token_file": str(token), "tls_cert": str(certificate), "tls_key": str(key)}
    with program(tmp_path, address="0.0.0.0:0", **files) as own:
        port = int(own.url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=str(certificate))
        for words, status in ({}, 401), ({"Authorization": "Bearer correct horse battery"}, 200):
            connection = http.client.HTTPSConnection(
                "localhost", port, context=context, timeout=WAIT_S
            )
            connection.request("GET", "/", headers={"Host": "localhost", **words})
            assert connection.getresponse().status == status
            connection.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"address": ""}, "give an address"),
        ({"address": "9464"}, "is not an address"),
        ({"sample_bytes": 0}, "sample_bytes must be at least 1"),
        ({"keep_s": 0}, "must be above 0"),
        ({"push_interval_s": float("nan")}, "above 0 and finite"),
        ({"push": "http://host"}, "'http://host' is no address to push to"),
        ({"disk_bytes": 1}, "at least 4 MiB"),
        ({"labels": {"a b": "c"}}, "no name of a label"),
        ({"push": ["http://host"]}, "no address to push to"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], words: str) -> None:
    """Each is a UsageError, and nothing is traced."""
    with pytest.raises(mematlas.UsageError, match=words):
        mematlas.serve(**arguments)


def test_a_taken_port_traces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told, no folder is left, and this process can be traced afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(mematlas.MematlasError, match=f"cannot listen on {address}"):
            mematlas.serve(address)
    assert list(tmp_path.iterdir()) == []
    with mematlas.trace(tmp_path / "after.atlas") as traced:
        pass
    assert traced.recording.complete


@pytest.mark.parametrize("stops", [False, True])
def test_the_last_push_has_all(tmp_path: Path, *, stops: bool) -> None:
    """Without stop() the recorder writes the end after the program's; nothing is removed before it is pushed."""
    (tmp_path / "app.py").write_text(f"STOPS = {stops}\n{LAST}")
    with http_collector() as collector:
        done = subprocess.run(
            [sys.executable, "app.py", f"pyroscope+http://127.0.0.1:{collector.port}"],
            cwd=tmp_path, capture_output=True, text=True, check=True, timeout=2 * WAIT_S,
        )  # fmt: skip
        folder = Path(done.stdout.strip())
        if stops:
            assert collector.taken
            assert not folder.exists()
        wait_until(lambda: collector.taken, "the last push")
        wait_until(lambda: not folder.exists(), "the folder is removed")
    (tmp_path / "last.pb.gz").write_bytes(collector.taken[-1].body)
    profile = decode_pprof(tmp_path / "last.pb.gz")
    names = {each.id: profile.string_table[each.name] for each in profile.function}
    lines = {each.id: {names[line.function_id] for line in each.line} for each in profile.location}
    allocated = sum(
        each.value[1]
        for each in profile.sample
        if any("load_last" in lines[at] for at in each.location_id)
    )
    assert allocated >= BLOCKS * BLOCK
