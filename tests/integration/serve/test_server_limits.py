"""What clients and other users do to a server: it stays bounded, and gives away nothing but the recording."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from mematlas.recording.format import MAGIC
from mematlas.serve import listener as module
from serving import port_of, serving, status_of
from waiting import WAIT_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.serve.server import Server


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a short program."""
    path = tmp_path_factory.mktemp("limits") / "app.atlas"
    words = ["run", "-o", str(path), "--", sys.executable, "-I", "-S", "-c", "x = bytes(1 << 22)"]
    subprocess.run(
        [sys.executable, "-m", "mematlas", *words], check=True, capture_output=True, timeout=120
    )
    return path


def connected(server: Server) -> socket.socket:
    """Return a connection to a server."""
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=WAIT_S)


def answer_to(server: Server, request: bytes) -> bytes:
    """Return all that a server answers."""
    with connected(server) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def is_closed(client: socket.socket) -> bool:
    """Send one more letter of a request; return whether the server has closed the connection."""
    try:
        client.sendall(b"x")
        client.setblocking(False)
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        client.settimeout(WAIT_S)


def test_made_up_versions_are_not_kept(recording: Path) -> None:
    """A scraper names a version of its format; the server keeps one body for each format, not for each name."""
    with serving(recording) as server:
        for version in ("1.0.1", "1.0.2", "2.7.1", "x", ""):
            accept = {"Accept": f"application/openmetrics-text; version={version}"}
            assert status_of(port_of(server), accept, "/metrics") == 200
            assert (
                status_of(port_of(server), {"Accept": f"text/plain; version={version}"}, "/metrics")
                == 200
            )
        assert server.metrics is not None
        assert len(server.metrics._kept) == 2


def test_another_file_in_its_place_is_not_sent(recording: Path, tmp_path: Path) -> None:
    """Who may write the folder of a recording may put a link to a secret there."""
    (tmp_path / "secret").write_text("root:secret")
    path = tmp_path / "a.atlas"
    path.write_bytes(recording.read_bytes())
    with serving(path) as server:
        assert answer_to(server, b"GET /recording HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(
            path.read_bytes()
        )
        path.unlink()
        path.symlink_to("secret")
        answer = answer_to(server, b"GET /recording HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b" 503 " in answer.partition(b"\r\n")[0]
    assert b"secret" not in answer


def test_a_request_letter_by_letter_is_cut(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each letter comes in time, the whole request does not."""
    monkeypatch.setattr(module, "_REQUEST_S", 0.3)
    with serving(recording) as server, connected(server) as client:
        wait_until(lambda: is_closed(client), "the connection is closed", every_s=0.1)
        assert status_of(port_of(server), {}) == 200


def test_connections_are_bounded(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection beyond the limit is closed at once; when others end, it is served."""
    monkeypatch.setattr(module, "_MOST_CONNECTIONS", 2)
    with serving(recording) as server:
        first, second = connected(server), connected(server)
        with connected(server) as third:
            assert third.recv(1) == b""
        first.close()
        second.close()
        wait_until(lambda: _is_served(server), "there is room again")


def _is_served(server: Server) -> bool:
    try:
        return status_of(port_of(server), {}) == 200
    except (OSError, EOFError):
        return False


def test_a_cut_answer_has_no_second_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a client that does not read in time, the rest of the recording is missing, and nothing stands in its place."""
    monkeypatch.setattr(module.PageHandler, "timeout", 0.3)
    path = tmp_path / "large.atlas"
    with path.open("wb") as file:
        file.write(MAGIC)
        file.truncate(64 << 20)
    with serving(path) as server, connected(server) as client:
        client.sendall(b"GET /recording HTTP/1.0\r\nHost: localhost\r\n\r\n")
        start = client.recv(16)
        free = server._connections
        wait_until(lambda: free._value == module._MOST_CONNECTIONS, "the server gave up")
        rest = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert start.startswith(b"HTTP/1.0 200")
    assert len(rest) < 64 << 20
    assert b"HTTP/1.0" not in rest


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://[", b"malformed"),
        (f"/debug/pprof/heap?seconds={'9' * 5000}", b"limit of 60 seconds"),
    ],
)
def test_a_malformed_request_is_answered(recording: Path, target: str, words: bytes) -> None:
    """No request ends in silence."""
    with serving(recording) as server:
        text = f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        answer = answer_to(server, text.encode())
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert words in answer


@pytest.mark.parametrize("host", ["[::1]", "[::1]:9464", "127.0.0.1", "localhost:1"])
def test_names_of_this_machine(recording: Path, host: str) -> None:
    """Each address of the loopback is one, with a port and without."""
    with serving(recording) as server:
        assert status_of(port_of(server), {"Host": host}) == 200


def test_the_server_ends_with_a_killed_run(tmp_path: Path) -> None:
    """SIGKILL gives `run` no time to end its server."""
    words = ["run", "-o", str(tmp_path / "a.atlas"), "--serve", "127.0.0.1:0", "--"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mematlas", *words, "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.readline()
    assert " on http://127.0.0.1:" in said, said
    port = int(said.rpartition(":")[2])
    assert status_of(port, {}) in {200, 503}
    process.kill()
    process.communicate(timeout=WAIT_S)
    wait_until(lambda: not _listens(port), "the server has ended")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
