"""`run --serve` on a program that runs: each page, read by other software where it is here."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import mematlas
from exports import decode_pprof
from mematlas.cli import main
from mematlas.serve.address import Protection
from mematlas.serve.heap_profile import ProfileQuery, render_profile
from mematlas.serve.state import ServedRecording
from waiting import WAIT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from prometheus_client.parser import text_string_to_metric_families

from serving import port_of, serving, status_of

BLOCK, BLOCKS = 1 << 20, 24
PROGRAM = f"""
import sys
kept = []
def load_orders(count):
    for _ in range(count):
        kept.append(bytearray({BLOCK}))
load_orders({BLOCKS})
for line in sys.stdin:
    load_orders(int(line))
"""


@dataclass(frozen=True)
class Service:
    """A traced program and its server."""

    process: subprocess.Popen[str]
    path: Path
    port: int

    def get(self, path: str, **headers: str) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a page; HTTPError if it is refused."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.read(), dict(answer.headers)

    def allocate(self, blocks: int) -> None:
        """Make the program allocate blocks that it keeps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{blocks}\n")
        self.process.stdin.flush()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the program with a server on a free port."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "app.py").write_text(PROGRAM)
    path = folder / "app.atlas"
    words = ["run", "--exact", "-o", str(path), "--serve", "127.0.0.1:0", "--"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mematlas", *words, sys.executable, "-S", str(folder / "app.py")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    assert " on http://127.0.0.1:" in said, said
    found = Service(process, path, int(said.rpartition(":")[2]))
    try:
        wait_until(lambda: _is_healthy(found), "the server has figures")
        yield found
    finally:
        process.communicate(timeout=WAIT_S)


def _is_healthy(service: Service) -> bool:
    try:
        return service.get("/healthz")[0] == b"ok\n" and live(service) >= BLOCKS * BLOCK
    except OSError:
        return False


def live(service: Service) -> float:
    """Return the live bytes of the function, by /metrics."""
    return metric(service, "mematlas_line_live_bytes", function="load_orders")


def metric(service: Service, name: str, **labels: str) -> float:
    """Return the sum of a metric over the samples with these labels."""
    text = service.get("/metrics")[0].decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_metrics_say_what_the_program_holds(service: Service) -> None:
    """Lines, parts and sums are those of the program, and the parts add up to the resident memory."""
    assert BLOCKS * BLOCK <= live(service) <= (BLOCKS + 8) * (BLOCK + 4096)
    text = service.get("/metrics")[0].decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    parts = sum(value for name, value in found.items() if name[0] == "mematlas_account_bytes")
    assert parts == found[("mematlas_resident_bytes",)]
    by_line = sum(value for name, value in found.items() if name[0] == "mematlas_line_live_bytes")
    assert by_line == found[("mematlas_live_bytes",)]
    assert found[("mematlas_sampling_bytes",)] == 0
    assert found[("mematlas_processes",)] == 1


def test_openmetrics_is_given_to_who_asks(service: Service) -> None:
    """Prometheus asks for OpenMetrics; promtool accepts the text."""
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    body, headers = service.get("/metrics", Accept=kind)
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: apt-get install prometheus")
    plain = service.get("/metrics")[0]
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=plain, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_heap_profile_is_gos(service: Service, tmp_path: Path) -> None:
    """Four sample types in Go's order, Go's headers, and what the program holds."""
    body, headers = service.get("/debug/pprof/heap")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == 'attachment; filename="heap"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in headers
    (tmp_path / "heap.pb.gz").write_bytes(body)
    profile = decode_pprof(tmp_path / "heap.pb.gz")
    strings = profile.string_table
    types = [strings[each.type] for each in profile.sample_type]
    assert types == ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]
    assert (strings[profile.period_type.type], profile.duration_nanos) == ("space", 0)
    names = {each.id: strings[each.name] for each in profile.function}
    own = {
        location.id
        for location in profile.location
        for line in location.line
        if names[line.function_id] == "load_orders"
    }
    held = sum(each.value[3] for each in profile.sample if own & set(each.location_id))
    assert BLOCKS * BLOCK <= held <= (BLOCKS + 8) * (BLOCK + 4096)


class Meanwhile(threading.Event):
    """A time in which the program allocates, which lasts until its sums have that."""

    def __init__(self, service: Service, blocks: int) -> None:
        super().__init__()
        self._service, self._blocks = service, blocks

    def wait(self, timeout: float | None = None) -> bool:
        """Allocate in the first wait, which stands between the readings; wait as asked for in the others."""
        blocks, self._blocks = self._blocks, 0
        if not blocks:
            return super().wait(timeout)
        wanted = allocated(self._service) + blocks * BLOCK
        self._service.allocate(blocks)
        wait_until(lambda: allocated(self._service) >= wanted, "the sums have the new blocks")
        return False


def allocated(service: Service) -> float:
    """Return all bytes allocated so far, by /metrics."""
    return metric(service, "mematlas_allocated_bytes_total")


def test_difference_is_what_was_allocated_meanwhile(service: Service, tmp_path: Path) -> None:
    """`seconds=N` gives the allocations of that time, with its true duration."""
    more = 5
    wait_until(lambda: allocated(service) >= BLOCKS * BLOCK, "the sums have the first blocks")
    recording = ServedRecording(str(service.path))
    query = ProfileQuery("allocs", seconds=1)
    body = b"".join(render_profile(recording, query, Meanwhile(service, more)))
    (tmp_path / "delta.pb.gz").write_bytes(body)
    profile = decode_pprof(tmp_path / "delta.pb.gz")
    assert profile.duration_nanos > 0
    found = sum(each.value[1] for each in profile.sample)
    assert more * BLOCK <= found < more * BLOCK + BLOCK
    headers = service.get("/debug/pprof/allocs?seconds=1")[1]
    assert headers["Content-Disposition"] == 'attachment; filename="allocs-delta"'


def test_go_tool_pprof_reads_it(service: Service, tmp_path: Path) -> None:
    """Go's own reader names the function and the size."""
    if not shutil.which("go"):
        pytest.skip("go is not installed: apt-get install golang-go")
    url = f"http://127.0.0.1:{service.port}/debug/pprof/heap"
    done = subprocess.run(
        ["go", "tool", "pprof", "-top", "-unit=MB", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env={**os.environ, "PPROF_TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert "load_orders" in done.stdout, done.stdout + done.stderr
    assert "Type: inuse_space" in done.stdout


def test_page_and_recording_are_those_of_the_moment(service: Service, tmp_path: Path) -> None:
    """The page has the line; the recording so far opens, cut short."""
    assert b"load_orders" in service.get("/report")[0]
    body, headers = service.get("/recording")
    assert headers["Content-Disposition"] == 'attachment; filename="app.atlas"'
    copy = tmp_path / "copy.atlas"
    copy.write_bytes(body)
    assert main(["report", str(copy), "--json"]) == 0


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/debug/pprof/heap?seconds=0", 400, 'invalid value for "seconds"'),
        ("/debug/pprof/heap?seconds=3600", 400, "limit of 60 seconds"),
        ("/debug/pprof/heap?debug=1", 400, "go tool pprof"),
        ("/debug/pprof/profile", 404, "/debug/pprof/heap"),
        ("/nowhere", 404, "/ lists them"),
        ("/../../etc/passwd", 404, "/ lists them"),
    ],
)
def test_a_wrong_request_is_one_line(service: Service, path: str, status: int, words: str) -> None:
    """Errors are one line of text, marked for Go's pprof where it asks."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WAIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert (answer.status, text.count("\n")) == (status, 1)
    assert words in text
    assert (answer.headers["X-Go-Pprof"] == "1") is path.startswith("/debug/pprof/")
    connection.close()


def test_foreign_names_and_methods_are_refused(service: Service) -> None:
    """A foreign Host is a browser that was led here; only reading is served."""
    for host, method, status in (
        ("evil.example:80", "GET", 403),
        ("127.0.0.1.evil.example", "GET", 403),
        (f"localhost:{service.port}", "HEAD", 200),
        ("localhost", "POST", 501),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=WAIT_S)
        connection.request(method, "/metrics", headers={"Host": host})
        answer = connection.getresponse()
        assert answer.status == status
        if method == "HEAD":
            assert answer.read() == b""
        connection.close()


def test_a_token_is_demanded(service: Service) -> None:
    """Without the token nothing is told; browsers may give it as a password."""
    token = "correct horse battery"
    with serving(service.path, "127.0.0.1:0", Protection(token)) as server:
        port = port_of(server)
        wait_until(lambda: status_of(port, {"Authorization": f"Bearer {token}"}) == 200, "a figure")
        assert status_of(port, {}) == 401
        assert status_of(port, {"Authorization": f"Bearer {token}x"}) == 401
        assert status_of(port, {"Authorization": "Basic !"}) == 401
        assert status_of(port, {"Authorization": "Basic dTpjb3JyZWN0IGhvcnNlIGJhdHRlcnk="}) == 200


def test_a_unix_socket_is_of_its_user_alone(service: Service, tmp_path: Path) -> None:
    """The socket has mode 0600, replaces a stale one, and is gone at the end."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serving(service.path, f"unix:{path}", Protection()):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(str(path))
            client.sendall(b"GET /debug/pprof/cmdline HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"app.py" in answer or b"503" in answer
        with pytest.raises(Exception, match="cannot listen on unix:"), \
                serving(service.path, f"unix:{path}", Protection()):  # fmt: skip
            pass
    assert not path.exists()


def test_tls(service: Service, tmp_path: Path) -> None:
    """A client that trusts the certificate is served; one that speaks plain HTTP stops nobody."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    import ssl

    protection = Protection("", str(certificate), str(key))
    with serving(service.path, "127.0.0.1:0", protection) as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            context = ssl.create_default_context(cafile=str(certificate))
            connection = http.client.HTTPSConnection(
                "localhost", port, context=context, timeout=WAIT_S
            )
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200
            assert b"/metrics" in answer.read()
            connection.close()


def test_an_empty_recording_is_not_yet(tmp_path: Path) -> None:
    """Before the first figures the answer is 503, also where the file is not there."""
    with serving(tmp_path / "none.atlas", "127.0.0.1:0", Protection()) as server:
        assert status_of(port_of(server), {}) == 503


def test_a_taken_port_is_told_before_the_program_starts(tmp_path: Path) -> None:
    """`run --serve` on a port in use starts nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "mematlas", "run", "-o", str(tmp_path / "a.atlas"),
             "--serve", f"127.0.0.1:{port}", "--", "touch", str(tmp_path / "started")],
            capture_output=True, text=True, check=False, timeout=WAIT_S,
        )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert not (tmp_path / "started").exists()


def test_figures_are_those_of_the_report(service: Service) -> None:
    """The sums of /metrics are those of the library's report of the same recording."""
    copy = service.path.with_name("same.atlas")
    copy.write_bytes(service.get("/recording")[0])
    stacks = mematlas.open(copy).report(at="end").stacks
    with serving(copy, "127.0.0.1:0", Protection()) as server:
        port = port_of(server)
        wait_until(lambda: status_of(port, {}) == 200, "the figures")
        text = urllib.request.urlopen(f"{server.url}/metrics", timeout=WAIT_S).read().decode()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }
    for name, column in (
        ("mematlas_live_bytes", "live_bytes"),
        ("mematlas_live_blocks", "live_count"),
        ("mematlas_allocated_bytes_total", "allocated_bytes"),
        ("mematlas_allocations_total", "allocations"),
    ):
        assert found[name] == sum(getattr(stack, column) for stack in stacks), name
