"""Enters real servers as attach does and prints how long they were stopped: `scripts/attach-servers`.

Each time, a safe thread of each process is found and stopped, getpid() is called in it, and it goes on. At the
end, `mematlas attach` records the server once.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.tracing.members import ProcessTree
from mematlas.tracing.safe_thread import stop_safe_thread
from mematlas.tracing.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_WITHIN_S = 1.0
_SHORT_TIMES = 3
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


def _java(folder: Path) -> list[str]:
    (folder / "Busy.java").write_text(_JAVA)
    subprocess.run(["javac", "Busy.java"], cwd=folder, check=True)
    return ["java", "-cp", str(folder), "Busy"]


SERVERS = {
    "postgres": Server(_postgres_tool("postgres"), _postgres, user="postgres"),
    "php": Server(
        "php", lambda _: ["php", "-r", 'while(1){$a=str_repeat("x",100000); usleep(1000);}']
    ),
    "node": Server(
        "node",
        lambda _: ["node", "-e", "setInterval(()=>{globalThis.k=new Array(10000).fill({})},5)"],
        short=True,
    ),
    "java": Server("javac", _java),
    "nginx": Server("nginx", _nginx),
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
    ),
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
        try:
            time.sleep(1.5)
            yield process.pid
        finally:
            for sent in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, sent)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3)
                    break
            for end in ends or ():
                os.close(end)


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
        pids = ProcessTree(pid).read()
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
    parser.add_argument("--short", action="store_true", help="a few servers, a few times")
    options = parser.parse_args(arguments)
    failed = 0
    for name, server in SERVERS.items():
        if (options.names and name not in options.names) or (options.short and not server.short):
            continue
        if not shutil.which(server.needs):
            print(f"{name}: skipped: {server.needs} is not installed")
            continue
        failed += not _try(name, server, _SHORT_TIMES if options.short else options.times)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
