"""Enters real servers as attach does and prints how long they were stopped: `scripts/attach-servers`.

Each time, a safe thread of each process is found and stopped, getpid() is called in it, and it goes on. At the
end, `mematlas attach` records the server once. With --cycles N, each server is instead attached to and detached from
N times in turn, under load, and its address space and mappings are held against those after the first time.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.tracing.attach import StopSignals, attach
from mematlas.tracing.members import ProcessTree
from mematlas.tracing.safe_thread import stop_safe_thread
from mematlas.tracing.settings import TraceSettings
from mematlas.tracing.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WITHIN_S = 1.0
_SHORT_TIMES = 3
_SETTLE_S = 2.0
_ATTACHED_S = 0.1
_WORK = """
import sys, threading, time
def work():
    while True: [object() for _ in range(1000)]; time.sleep(0.001)
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(1000)
"""
_JAVA = """
public class Busy {
  public static void main(String[] a) throws Exception {
    for (;;) { byte[][] kept = new byte[100][]; for (int i = 0; i < 100; i++) kept[i] = new byte[10000]; Thread.sleep(1); }
  }
}
"""
_SET = """
import socket, time
while True:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("{folder}/s")
        client.sendall(b"set k 0 0 3\\r\\nabc\\r\\nquit\\r\\n")
        client.recv(100)
    time.sleep(0.01)
"""
_WSGI = """
KEPT = []
def app(environ, start):
    KEPT.append(bytes(1000))
    start("200 OK", [])
    return [b"kept"]
"""
_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 2;
events {{ }}
http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; server {{ listen unix:{folder}/socket; }} }}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: the program that it needs, and the command that starts it in a folder."""

    needs: str
    command: Callable[[Path], Sequence[str]]
    user: str | None = None
    terminal: bool = False
    short: bool = False
    load: Callable[[Path], str] | None = None  # a shell command that runs beside the server


def _postgres_tool(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else name


def _postgres(folder: Path) -> list[str]:
    account = pwd.getpwnam("postgres")
    os.chown(folder, account.pw_uid, account.pw_gid)
    data = str(folder / "data")
    subprocess.run(
        [_postgres_tool("initdb"), "-D", data, "--no-sync"],
        user="postgres",
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return [_postgres_tool("postgres"), "-D", data, "-k", str(folder), "-h", ""]


def _nginx(folder: Path) -> list[str]:
    (folder / "conf").write_text(_NGINX.format(folder=folder))
    return ["nginx", "-p", str(folder), "-c", str(folder / "conf")]


def _gunicorn(folder: Path) -> list[str]:
    (folder / "wsgi.py").write_text(_WSGI)
    return [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"unix:{folder}/socket", "wsgi:app"]


def _java(folder: Path) -> list[str]:
    (folder / "Busy.java").write_text(_JAVA)
    subprocess.run(["javac", "Busy.java"], cwd=folder, check=True)
    return ["java", "-cp", str(folder), "Busy"]


def _chromium(folder: Path) -> list[str]:
    page = folder / "page.html"
    page.write_text("<script>setInterval(() => { k = new Array(10000).fill({}) }, 5)</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    return ["chromium", *options, f"--user-data-dir={folder}/profile", f"file://{page}"]


SERVERS = {
    "postgres": Server(
        _postgres_tool("postgres"),
        _postgres,
        user="postgres",
        load=lambda folder: (
            f"export PGHOST={folder} PGDATABASE=postgres; until psql -qc 'select 1'; do sleep 0.2; done;"
            " pgbench -i -q; exec pgbench -c 2 -T 3600 -R 200"
        ),
    ),
    "php": Server(
        "php", lambda _: ["php", "-r", 'while(1){$a=str_repeat("x",100000); usleep(1000);}']
    ),
    "node": Server(
        "node",
        lambda _: ["node", "-e", "setInterval(()=>{globalThis.k=new Array(10000).fill({})},5)"],
        short=True,
    ),
    "java": Server("javac", _java),
    "nginx": Server(
        "nginx",
        _nginx,
        load=lambda folder: (
            f"while :; do curl -s --unix-socket {folder}/socket http://x/; sleep 0.02; done"
        ),
    ),
    "redis": Server(
        "redis-server",
        lambda folder: [
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            f"{folder}/s",
            "--dir",
            str(folder),
        ],
        load=lambda folder: (
            f"while :; do redis-benchmark -s {folder}/s -n 2000 -r 5000 -q; sleep 0.1; done"
        ),
    ),
    "memcached": Server(
        "memcached",
        lambda folder: ["memcached", "-u", "root", "-s", f"{folder}/s", "-a", "777"],
        load=lambda folder: f"exec {sys.executable} -c '{_SET.format(folder=folder)}'",
    ),
    "gunicorn": Server(
        sys.executable,
        _gunicorn,
        load=lambda folder: (
            f"while :; do curl -s --unix-socket {folder}/socket http://x/; sleep 0.02; done"
        ),
    ),
    "ruby": Server(
        "ruby", lambda _: ["ruby", "-e", "loop { Array.new(1000) { |i| i.to_s }; sleep 0.001 }"]
    ),
    "chromium": Server("chromium", _chromium),
    "bash": Server("bash", lambda _: ["bash", "--norc", "-i"], terminal=True, short=True),
    "perl": Server(
        "perl",
        lambda _: ["perl", "-e", "while(1){@a=(1)x10000;select(undef,undef,undef,0.001)}"],
        short=True,
    ),
    "python": Server(sys.executable, lambda _: [sys.executable, "-c", _WORK], short=True),
}


@contextmanager
def _running(server: Server) -> Iterator[int]:
    """Run a server; yield its PID."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # noqa: PTH101
        command = list(server.command(Path(name)))
        ends = os.openpty() if server.terminal else None
        process = subprocess.Popen(
            command,
            stdin=ends[1] if ends else subprocess.DEVNULL,
            stdout=ends[1] if ends else subprocess.DEVNULL,
            stderr=ends[1] if ends else subprocess.DEVNULL,
            user=server.user,
            cwd=name,
            start_new_session=True,
        )
        load = server.load(Path(name)) if server.load else ""
        loading = subprocess.Popen(
            ["bash", "-c", load],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=server.user,
            start_new_session=True,
        )
        try:
            time.sleep(1.5)
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(loading.pid, signal.SIGKILL)
            loading.wait()
            for sent in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, sent)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3)
                    break
            for end in ends or ():
                os.close(end)


def _settled(pid: int) -> list[int]:
    """Return the processes of a server once none came or went for a while: those that prepare the load have ended."""
    pids: list[int] = []
    while pids != (pids := sorted(ProcessTree(pid).read())) or not pids:
        time.sleep(_SETTLE_S)
    return pids


def _enter(pid: int) -> tuple[float, float, str]:
    """Enter a process once: seconds until it was done, seconds of it that it was stopped, or why not."""
    begun = time.monotonic()
    try:
        target = Target(pid)
        getpid = target.find_in_libraries("getpid")
        with stop_safe_thread(target) as thread:
            stopped = time.monotonic()
            own = int(target.status.lines["NSpid"].split()[-1])
            answer = thread.call(getpid, 0, 0)
        ended = time.monotonic()
    except MematlasError as error:
        return time.monotonic() - begun, 0.0, str(error)
    if answer & 0xFFFFFFFF != own:
        return ended - begun, ended - stopped, f"getpid() returned {answer}"
    return ended - begun, ended - stopped, ""


def _try(name: str, server: Server, times: int) -> bool:
    """Enter all processes of a server `times` times and record it once; print a line. True: as it should be."""
    with _running(server) as pid:
        took, stalls, reasons = [], [], []
        pids = _settled(pid)
        for _ in range(times):
            for each in pids:
                with ThreadPoolExecutor(1) as executor:  # the kernel lets go what its thread traced
                    seconds, stall, reason = executor.submit(_enter, each).result()
                took.append(seconds)
                stalls.append(stall * 1000)
                if reason:
                    reasons.append(reason)
        alive = set(pids) <= set(ProcessTree(pid).read())
        recorded = _record(pid)
        alive = alive and set(pids) <= set(ProcessTree(pid).read())
    late = sum(each > _WITHIN_S for each in took)
    print(
        f"{name}: {len(pids)} processes, entered {len(took) - len(reasons)} of {len(took)} times in {statistics.median(took) * 1000:.1f} ms"
        f" (at most {max(took) * 1000:.0f} ms, {late} over a second), stopped for"
        f" {statistics.median(stalls):.2f} ms (at most {max(stalls):.1f} ms);"
        f" {'alive' if alive else 'DEAD'}; {recorded}"
    )
    for reason in sorted(set(reasons)):
        print(f"  not entered: {reason}")
    return alive and not reasons and recorded == "recorded"


@dataclass(frozen=True, slots=True)
class _Size:
    """What attaching could make grow."""

    address_space: int
    mappings: int

    @classmethod
    def of(cls, pid: int) -> _Size | None:
        """Read the sizes of a process; None: it has ended."""
        try:
            found = re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except FileNotFoundError:
            return None
        return cls(int(found[1]) << 10, len(maps)) if found else None


def _cycle(name: str, server: Server, times: int) -> bool:
    """Attach to a server and detach from it again and again; print a line. True: as it should be."""
    with _running(server) as pid, tempfile.TemporaryDirectory() as folder, StopSignals() as stop:
        time.sleep(_SETTLE_S)
        chosen = _busiest(ProcessTree(pid).read())
        took: list[float] = []
        sizes: list[_Size] = []
        failures: list[str] = []
        for _ in range(times):
            begun = time.monotonic()
            try:
                attach(
                    chosen,
                    TraceSettings(),
                    f"{folder}/a.atlas",
                    stop,
                    duration_s=_ATTACHED_S,
                    on_attached=lambda begun=begun: took.append(time.monotonic() - begun),  # type: ignore[misc]
                ).close()
            except MematlasError as error:
                failures.append(str(error))
            if not (size := _Size.of(chosen)):
                break
            sizes.append(size)
        alive = chosen in ProcessTree(pid).read() and len(sizes) == times
    late = sum(each > _WITHIN_S for each in took)
    text = f"{name}: attached {len(took)} of {times} times"
    if took:
        text += (
            f" in {statistics.median(took):.2f} s (at most {max(took):.2f} s, {late} over a second)"
        )
    if sizes:
        space = (sizes[-1].address_space - sizes[0].address_space) / 2**20
        text += f"; since the first {space:+.1f} MiB of address space, {sizes[-1].mappings - sizes[0].mappings:+d} mappings"
    print(f"{text}; {'alive' if alive else 'DEAD'}", flush=True)
    for failure, count in Counter(failures).items():
        print(f"  not attached {count} times: {failure}", flush=True)
    return alive and not failures


def _busiest(pids: Sequence[int]) -> int:
    """Return the process that has used the most CPU time."""
    times = {}
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        times[pid] = int(fields[11]) + int(fields[12])
    return max(times, key=lambda pid: times[pid])


def _record(pid: int) -> str:
    """Record the tree of a process once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mematlas", "attach", "--tree", str(pid)]
        options = ["--duration", "500ms", "-o", f"{folder}/a.atlas"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode == 0 and "not traced" not in done.stderr:
        return "recorded"
    return f"status {done.returncode}: {done.stderr.strip()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the chosen servers. Return 1 if one was not entered, or was harmed."""
    parser = argparse.ArgumentParser(prog="scripts/attach-servers", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SERVERS)}; default all")
    parser.add_argument("--times", type=int, default=50, help="default 50")
    parser.add_argument("--cycles", type=int, help="attach and detach so many times")
    parser.add_argument("--short", action="store_true", help="a few servers, a few times")
    options = parser.parse_args(arguments)
    failed = 0
    for name, server in SERVERS.items():
        if (options.names and name not in options.names) or (options.short and not server.short):
            continue
        if not shutil.which(server.needs):
            print(f"{name}: skipped: {server.needs} is not installed")
            continue
        if options.cycles:
            failed += not _cycle(name, server, options.cycles)
            continue
        failed += not _try(name, server, _SHORT_TIMES if options.short else options.times)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
