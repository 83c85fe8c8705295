"""`run --push`: collectors take the figures of the recording, and what they refuse ends nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import mematlas
from collectors import Collector, grpc_collector, http_collector
from exports import decode_pprof
from mematlas.serve.destination import parse_destination
from mematlas.serve.http_post import post
from mematlas.serve.pusher import PushError
from waiting import WAIT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 1 << 20
PROGRAM = f"""
import os, sys
kept = []
def load_orders(count):
    for _ in range(count):
        kept.append(bytearray({BLOCK}))
print(os.environ.get("MEMATLAS_PUSH_TOKEN"), flush=True)
load_orders(8)
for line in sys.stdin:
    load_orders(int(line))
    del kept[:2]
sys.exit(7)
"""
TOKEN = f"secret-of-{os.getpid()}-tests"
COLUMNS = ("allocations", "allocated_bytes", "live_count", "live_bytes")
TYPES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")


@dataclass(frozen=True)
class Run:
    """A run with pushes to several collectors: its recording, what it said, and what they took."""

    path: Path
    said: str
    urls: dict[str, str]
    collectors: dict[str, Collector]

    def sums(self) -> tuple[int, ...]:
        """Return allocations and live figures of the recording, blocks and bytes."""
        stacks = mematlas.open(self.path).report(at="end").stacks
        return tuple(sum(getattr(each, name) for each in stacks) for name in COLUMNS)

    def says(self, name: str, start: str) -> list[str]:
        """Return the lines about a collector that begin with some words."""
        address = re.compile(rf"{re.escape(self.urls[name])}\b")
        lines = self.said.splitlines()
        return [each for each in lines if each.startswith(start) and address.search(each)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run the program, which allocates again when the collectors have taken one push."""
    folder = tmp_path_factory.mktemp("push")
    with ExitStack() as stack:
        collectors = {
            "pyroscope": stack.enter_context(http_collector(503, 503)),
            "http": stack.enter_context(http_collector(400)),
            "redirect": stack.enter_context(http_collector(*[307] * 1000)),
        }
        urls = {
            "pyroscope": f"pyroscope+http://127.0.0.1:{collectors['pyroscope'].port}/base",
            "http": f"otlp+http://127.0.0.1:{collectors['http'].port}",
            "redirect": f"pyroscope+http://127.0.0.1:{collectors['redirect'].port}",
            "nobody": "pyroscope+http://127.0.0.1:9",
        }
        if find_spec("grpc"):
            collectors["grpc"] = stack.enter_context(grpc_collector(refused=1))
            urls["grpc"] = f"otlp://127.0.0.1:{collectors['grpc'].port}"
        takers = [each for name, each in collectors.items() if name != "redirect"]
        yield _run(folder, urls, collectors, takers)


def _run(
    folder: Path, urls: dict[str, str], collectors: dict[str, Collector], takers: list[Collector]
) -> Run:
    (folder / "app.py").write_text(PROGRAM)
    path = folder / "app.atlas"
    environment = {**os.environ, "MEMATLAS_PUSH_TOKEN": TOKEN}
    words = ["--exact", "-o", str(path), "--label", "service=orders", "--label", "zone=b 1"]
    pushes = [word for url in urls.values() for word in ("--push", url)]
    with subprocess.Popen(
        [sys.executable, "-m", "mematlas", "run", *words, *pushes, "--push-interval", "500ms",
         "--", sys.executable, "-S", folder / "app.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as program:  # fmt: skip
        try:
            wait_until(lambda: all(each.taken for each in takers), "a push to each collector")
            output, said = program.communicate("5\n", timeout=2 * WAIT_S)
        finally:
            program.kill()
    assert program.returncode == 7, said
    assert output == "None\n"  # the token is not the program's
    assert TOKEN.encode() not in path.read_bytes()
    return Run(path, said, urls, collectors)


def test_pyroscope_takes_the_figures_of_the_recording(done: Run, tmp_path: Path) -> None:
    """The last push has the recording's sums, in the form of /ingest; two refusals are counted and said."""
    taken = done.collectors["pyroscope"].taken
    last = taken[-1]
    (tmp_path / "last.pb.gz").write_bytes(last.body)
    profile = decode_pprof(tmp_path / "last.pb.gz")
    assert tuple(profile.string_table[each.type] for each in profile.sample_type) == TYPES
    found = tuple(sum(each.value[at] for each in profile.sample) for at in range(4))
    assert found == done.sums()
    assert last.path == "/base/ingest"
    assert last.query["format"] == "pprof"
    assert re.fullmatch(r"orders\{host=[^,{}]+,zone=b_1\}", last.query["name"])
    assert last.headers["Authorization"] == f"Bearer {TOKEN}"
    moments = [(int(each.query["from"]), int(each.query["until"])) for each in taken]
    assert all(begin < end for begin, end in moments)
    assert [end for _, end in moments[:-1]] == [begin for begin, _ in moments[1:]]
    (failed,) = done.says("pyroscope", "mematlas: cannot push to ")
    assert failed.endswith("status 503: not now; trying again")
    (summary,) = done.says("pyroscope", "mematlas: pushed ")
    assert summary.startswith(f"mematlas: pushed {len(taken)} profile")
    assert summary.endswith("; 2 attempts failed")


def last_otlp_request(done: Run, name: str) -> Any:
    """Check that the deltas of all pushes add up to the recording, and return the last request."""
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
    from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
        ExportProfilesServiceRequest,
    )

    taken = done.collectors[name].taken
    assert len(taken) > 1
    requests = [ExportProfilesServiceRequest.FromString(each.body) for each in taken]
    sums = [dict(_sums(each)) for each in requests]
    assert all(set(each) == set(TYPES) for each in sums)
    found = (
        *(sum(each[name] for each in sums) for name in TYPES[:2]),
        *(sums[-1][name] for name in TYPES[2:]),
    )
    assert found == done.sums()
    return requests[-1]


def _sums(request: Any) -> Iterable[tuple[str, int]]:
    texts = request.dictionary.string_table
    for resource in request.resource_profiles:
        for scope in resource.scope_profiles:
            for profile in scope.profiles:
                name = texts[profile.sample_type.type_strindex]
                yield name, sum(sum(each.values) for each in profile.samples)


def test_otlp_over_grpc(done: Run) -> None:
    """A server of the official definition takes it; functions and labels are in the dictionary."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    request = last_otlp_request(done, "grpc")
    (failed,) = done.says("grpc", "mematlas: cannot push to ")
    assert failed.endswith("UNAVAILABLE: not now; trying again")
    assert done.collectors["grpc"].taken[-1].headers["authorization"] == f"Bearer {TOKEN}"
    check_dictionary(request.dictionary)
    resource = request.resource_profiles[0].resource
    names = {each.key: each.value.string_value for each in resource.attributes}
    assert names["service.name"] == "orders"
    assert names["zone"] == "b 1"
    assert names["host.name"] == os.uname().nodename
    held = {
        text
        for profile in request.resource_profiles[0].scope_profiles[0].profiles
        for sample in profile.samples
        for text in _functions(request.dictionary, sample.stack_index)
    }
    assert "load_orders" in held


def check_dictionary(dictionary: Any) -> None:
    """Check what the definition demands: the first of each table is empty, and none is there twice."""
    for name in ("mapping", "location", "function", "link", "attribute", "stack"):
        table = getattr(dictionary, f"{name}_table")
        assert table[0] == type(table[0])()
        rows = [each.SerializeToString() for each in table]
        assert len(set(rows)) == len(rows), name
    assert dictionary.string_table[0] == ""
    assert len(set(dictionary.string_table)) == len(dictionary.string_table)


def _functions(dictionary: Any, stack: int) -> Iterable[str]:
    for location in dictionary.stack_table[stack].location_indices:
        for line in dictionary.location_table[location].lines:
            function = dictionary.function_table[line.function_index]
            yield dictionary.string_table[function.name_strindex]


def test_otlp_over_http(done: Run) -> None:
    """The same in a POST request. A refusal for good does not end the pushes."""
    last_otlp_request(done, "http")
    last = done.collectors["http"].taken[-1]
    assert last.path == "/v1development/profiles"
    assert last.headers["Content-Type"] == "application/x-protobuf"


def test_a_collector_that_is_not_there_harms_nothing(done: Run) -> None:
    """The recording is complete; the failures are told once, and counted at the end."""
    assert mematlas.open(done.path).complete
    assert len(done.says("nobody", "mematlas: cannot push to ")) == 1
    (summary,) = done.says("nobody", "mematlas: pushed 0 profiles to ")
    assert re.search(r"; \d+ attempts? failed, the last one too: ", summary)


def test_a_redirect_does_not_get_the_token(done: Run) -> None:
    """Who is asked may name another host: it is told as a failure."""
    assert done.collectors["redirect"].taken == []
    (failed,) = done.says("redirect", "mematlas: cannot push to ")
    assert "status 307" in failed


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "is no address to push to: give otlp://HOST:4317"),
        ("otlp://u:p@host:1", "give it in MEMATLAS_PUSH_TOKEN"),
        ("pyroscope+http://collector.example:4040", "in clear text: give pyroscope+https://"),
    ],
)
def test_a_wrong_destination_is_told_before_the_program_starts(
    tmp_path: Path, url: str, words: str
) -> None:
    """One line, and nothing runs."""
    done = subprocess.run(
        [sys.executable, "-m", "mematlas", "run", "--push", url, "-o", tmp_path / "a.atlas",
         "--", "touch", tmp_path / "started"],
        capture_output=True, text=True, check=False, timeout=WAIT_S,
        env={**os.environ, "MEMATLAS_PUSH_TOKEN": TOKEN},
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "grpc_proxy"])
def test_no_proxy_sees_what_is_sent_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A token is sent to this machine in clear text, so nobody may be between."""
    with http_collector() as collector, http_collector() as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        local = parse_destination(f"pyroscope+http://127.0.0.1:{collector.port}")
        post(local.url, b"figures", {}, is_local=local.is_local)
        assert [each.body for each in collector.taken] == [b"figures"]
        assert proxy.taken == []
    assert not parse_destination("otlps://host").is_local


def test_grpc_uses_no_proxy_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same by gRPC, which would ask a proxy that is not there."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

    from mematlas.serve.grpc_transport import GrpcTransport

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with grpc_collector() as collector:
        transport = GrpcTransport(parse_destination(f"otlp://127.0.0.1:{collector.port}"), "")
        transport.export(profiles_service_pb2.ExportProfilesServiceRequest())
        assert len(collector.taken) == 1


def test_an_answer_that_is_no_otlp_is_a_failure() -> None:
    """As of a proxy that shows a page of its own with status 200."""
    pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")
    from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

    from mematlas.serve.otlp import HttpTransport

    with http_collector() as collector:
        collector.answer = b"<html>log in</html>"
        transport = HttpTransport(parse_destination(f"otlp+http://127.0.0.1:{collector.port}"), "")
        with pytest.raises(PushError, match="is not that of OTLP"):
            transport.export(profiles_service_pb2.ExportProfilesServiceRequest())
