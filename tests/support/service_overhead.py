"""Prints what an attached `mematlas attach --keep` costs services under load: `scripts/service-overhead`.

One server answers in rounds, attached in every other one. The measure is CPU time of its processes for each request,
because other programs may share the machine; the 99th percentile of latency is that which the load program measured.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attach_servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TICKS = os.sysconf("SC_CLK_TCK")
_ATTACH_S = 60.0
_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ }}
http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "kept"; }} }} }}
"""
_WSGI = """
import json
def app(environ, start):
    start("200 OK", [])
    return [json.dumps([{"id": n, "name": str(n)} for n in range(200)]).encode()]
"""


class Answered(NamedTuple):
    """What a load program told of a round."""

    requests: int
    p99_ms: float


class Round(NamedTuple):
    """One round."""

    cpu_us: float  # of the server, for each request
    p99_ms: float
    collector: float  # share of a core


@dataclass(frozen=True, slots=True)
class Service:
    """A server and its load."""

    command: Callable[[Path, int], list[str]]
    load: Callable[[Path, int, float], Answered]
    user: str | None = None


def _gunicorn(folder: Path, port: int) -> list[str]:
    (folder / "wsgi.py").write_text(_WSGI)
    address = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "gunicorn", "-w", "1", "-b", address, "wsgi:app"]


def _nginx(folder: Path, port: int) -> list[str]:
    (folder / "conf").write_text(_NGINX.format(folder=folder, port=port))
    return ["nginx", "-p", str(folder), "-c", str(folder / "conf")]


def _redis(folder: Path, port: int) -> list[str]:
    return ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]


def _wrk(_: Path, port: int, seconds: float) -> Answered:
    url = f"http://127.0.0.1:{port}/"
    text = _output(["wrk", "-t1", "-c4", f"-d{seconds:.0f}s", "--latency", url])
    requests = re.search(r"(\d+) requests in", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    assert requests, text
    assert p99, text
    return Answered(int(requests[1]), float(p99[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[p99[2]])


def _redis_benchmark(_: Path, port: int, seconds: float) -> Answered:
    command = ["redis-benchmark", "-p", str(port), "-c", "8", "-r", "100000", "-d", "200", "--csv"]
    end, requests, slowest = time.monotonic() + seconds, 0, []
    while time.monotonic() < end:
        rows = _output([*command, "-n", "100000", "-t", "set,get,lpush,lpop"]).splitlines()[1:]
        requests += 100_000 * len(rows)
        slowest += [float(row.split(",")[6].strip('"')) for row in rows]
    return Answered(requests, statistics.median(slowest))


def _pgbench(folder: Path, _: int, seconds: float) -> Answered:
    command = [
        "pgbench",
        "-h",
        str(folder),
        "-U",
        "postgres",
        "-n",
        "-c4",
        f"-T{seconds:.0f}",
        "-S",
    ]
    with tempfile.TemporaryDirectory() as logs:
        _output([*command, "-l", "--log-prefix", f"{logs}/log", "postgres"])
        lines = [line for log in Path(logs).iterdir() for line in log.read_text().splitlines()]
    times = sorted(int(line.split()[2]) for line in lines)
    return Answered(len(times), times[len(times) * 99 // 100] / 1e3)


SERVICES = {
    "gunicorn": Service(_gunicorn, _wrk),
    "redis": Service(_redis, _redis_benchmark),
    "nginx": Service(_nginx, _wrk),
    "postgres": Service(
        lambda folder, _: list(SERVERS["postgres"].command(folder)), _pgbench, "postgres"
    ),
}


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def _tree_cpu_s(pid: int) -> float:
    """Return the CPU time of a process, what descends from it, and those of them that have ended."""
    stats: dict[int, list[str]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            with suppress(OSError):
                stats[int(each.name)] = _stat(int(each.name))
    found, before = {pid}, 0
    while len(found) > before:
        before = len(found)
        found |= {each for each, stat in stats.items() if int(stat[1]) in found}
    return sum(int(word) for each in found for word in stats[each][11:15]) / _TICKS


@contextmanager
def _running(service: Service, folder: Path, port: int) -> Iterator[int]:
    process = subprocess.Popen(
        service.command(folder, port), user=service.user, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(3)
        if service.user:
            _output(["pgbench", "-h", str(folder), "-U", "postgres", "-i", "-q", "postgres"])
        yield process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process, by force if it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _attached(pid: int, file: Path) -> Iterator[subprocess.Popen[str]]:
    """Attach as an always-on recording does, and detach at the end."""
    command = [sys.executable, "-m", "mematlas", "attach", "--tree", str(pid), "--keep", "1h"]
    with Path(f"{file}.log").open("w") as log:
        process = subprocess.Popen([*command, "-o", str(file)], stderr=log, stdout=log, text=True)
    try:
        end = time.monotonic() + _ATTACH_S
        while "libmematlas" not in Path(f"/proc/{pid}/maps").read_text():
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"cannot attach: {Path(f'{file}.log').read_text()}")
            time.sleep(0.2)
        time.sleep(2)
        yield process
    finally:
        _end(process)


def _round(
    service: Service, pid: int, place: tuple[Path, int], seconds: float, file: Path | None
) -> Round:
    if file is None:
        return _measure(service, pid, place, seconds, None)
    with _attached(pid, file) as collector:
        return _measure(service, pid, place, seconds, collector.pid)


def _measure(
    service: Service, pid: int, place: tuple[Path, int], seconds: float, collector: int | None
) -> Round:
    begun, before = time.monotonic(), _tree_cpu_s(pid)
    own = _tree_cpu_s(collector) if collector else 0.0
    answered = service.load(*place, seconds)
    used, lasted = _tree_cpu_s(pid) - before, time.monotonic() - begun
    own = _tree_cpu_s(collector) - own if collector else 0.0
    return Round(used / answered.requests * 1e6, answered.p99_ms, own / lasted)


def _compare(name: str, seconds: float, rounds: int, port: int) -> None:
    service = SERVICES[name]
    measured: dict[bool, list[Round]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder), port
        with _running(service, *place) as pid:
            service.load(*place, 2)  # caches and connections of the first requests
            for number in range(2 * rounds):
                on = number % 4 in (1, 2)  # off, on, on, off: a drift of the machine falls on both
                file = Path(folder, f"{number}.atlas") if on else None
                measured[on].append(_round(service, pid, place, seconds, file))
    _print(name, measured[False], measured[True])


def _print(name: str, off: list[Round], on: list[Round]) -> None:
    for title, rounds in (("off", off), ("on", on)):
        words = " ".join(f"{each.cpu_us:.2f}/{each.p99_ms:.2f}" for each in rounds)
        print(f"{name:10} {title:3} {words}   (us of CPU a request / p99 ms)")
    cpu = statistics.median(x.cpu_us for x in on) / statistics.median(x.cpu_us for x in off)
    least = min(x.cpu_us for x in on) / min(x.cpu_us for x in off)
    p99 = [statistics.median(x.p99_ms for x in rounds) for rounds in (off, on)]
    low, high = min(x.p99_ms for x in off), max(x.p99_ms for x in off)
    collector = statistics.median(x.collector for x in on)
    print(
        f"{name:10} CPU x{cpu:.3f} (least x{least:.3f}), p99 {p99[0]:.2f} -> {p99[1]:.2f} ms"
        f" (off {low:.2f} to {high:.2f}), collector {collector:.2%} of a core,"
        f" load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    """Compare the services that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SERVICES))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=4, help="of each kind")
    parser.add_argument("--port", type=int, default=18_080)
    options = parser.parse_args()
    for name in options.names or SERVICES:
        _compare(name, options.seconds, options.rounds, options.port)


if __name__ == "__main__":
    main()
