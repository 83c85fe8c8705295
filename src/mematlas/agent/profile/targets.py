"""Which processes are profiled, and the recorder that does it. A failed attach is remembered and not repeated."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.agent.pace import read_cost
from mematlas.agent.profile.recorder import Request, replace_file, request_text
from mematlas.linux.processes import is_running, read_started

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.agent.settings import AgentSettings, Rule
    from mematlas.agent.watch.processes import Process

RECORDED, WAITING, REFUSED = "recorded", "waiting", "refused"
_LEAST_AGE_S = 3.0  # of a process that is chosen: many end before
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 3600.0  # until a recorder that failed is started again
_SPARSER = 4  # times fewer samples, where the cost exceeded a limit
_SPARSEST = 1 << 26
_APART_S = 120.0  # between two starts
_BEGIN_S = 10.0  # CPU time of its start is not counted for so long
_SPAN_S = 300.0  # of the share that decides
_FILE_PART = 4  # of the limit on disk, that one recording may take
_SETTLE_S = 20.0  # in which a recorder that was told to end may do so
_KEPT = 256  # processes whose recording is remembered
_TICKS = os.sysconf("SC_CLK_TCK")

Key = tuple[int, int]  # PID, start time


class Recorder:
    """A running recorder, started by this agent or by an earlier one."""

    def __init__(
        self, pid: int, started: int, output: str, child: subprocess.Popen[bytes] | None
    ) -> None:
        """Watch the process."""
        self.pid, self.started, self.output, self.child = pid, started, output, child
        self.begun = time.monotonic()
        self.cpu_s, self.rss = 0.0, 0
        self.ending_at: float | None = None
        self._seen: deque[tuple[float, float]] = deque()

    def has_ended(self) -> bool:
        """Return whether it has ended, and reap it."""
        if self.child is not None:
            return self.child.poll() is not None
        return not is_running(f"/proc/{self.pid}", self.started)

    def end(self) -> None:
        """Request the end of its recording; kill it where it does not end."""
        now = time.monotonic()
        if self.ending_at is None:
            self.ending_at = now
            self._send(signal.SIGTERM)
        elif now - self.ending_at > _SETTLE_S:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        """Send a signal, never to a process that has its PID by now: the descriptor is opened before the look."""
        with suppress(ProcessLookupError):
            file = os.pidfd_open(self.pid)
            try:
                if not self.has_ended():
                    signal.pidfd_send_signal(file, number)
            finally:
                os.close(file)

    def measure(self) -> float:
        """Read its cost; return the CPU time since the last reading."""
        cost = read_cost(self.pid)
        if cost is None:
            return 0.0
        used, self.cpu_s, self.rss = cost[0] - self.cpu_s, cost[0], cost[1]
        now = time.monotonic()
        if now - self.begun > _BEGIN_S and (not self._seen or now - self._seen[-1][0] > _BEGIN_S):
            self._seen.append((now, self.cpu_s))
            while now - self._seen[0][0] > _SPAN_S:
                self._seen.popleft()
        return max(0.0, used)

    @property
    def recent_share(self) -> float | None:
        """The share of one core in some minutes; None until it ran for one. To enter a process costs as much as a minute may."""
        now = time.monotonic()
        if not self._seen or now - self._seen[0][0] < _SPAN_S / 5:
            return None
        return (self.cpu_s - self._seen[0][1]) / (now - self._seen[0][0])


class Targets:
    """Chooses processes by rules, and keeps one recorder for all of them."""

    def __init__(self, settings: AgentSettings) -> None:
        """Take over the recorder of an earlier agent, if one runs."""
        self.settings = settings
        self.chosen: dict[Key, str] = {}  # name of the rule
        self.entered: set[int] = set()
        self.refused: dict[Key, str] = {}  # the reason
        self.recorder: Recorder | None = None
        self.sample_bytes = settings.sample_bytes
        self.ends = 0  # of recorders, because of the cost
        self.children_s = 0.0  # CPU time of recorders that have ended
        self._chosen_by: tuple[Rule, ...] = ()
        self._recordings: dict[Key, str] = {}  # of processes that may have ended
        self._wait_s = _FIRST_WAIT_S
        self._next_at = 0.0
        self._written: list[Key] | None = None
        self._state = Path(settings.state)
        (self._state / "recordings").mkdir(mode=0o700, exist_ok=True)
        self._adopt()

    def state_of(self, key: Key) -> str:
        """Return whether a chosen process is recorded, waits, or was refused."""
        if key in self.refused:
            return REFUSED
        return RECORDED if key[0] in self.entered and self.recorder else WAITING

    def recording_of(self, key: Key) -> str:
        """Return the last recording of a process, "" if it was not recorded."""
        return self._recordings.get(key, "")

    def choose(self, processes: Iterable[Process], now_ticks: int) -> None:
        """Choose processes by the rules: those chosen before first, then the largest."""
        rules, most = self.settings.rules, self.settings.processes
        known = {(each.pid, each.started): each for each in processes}
        self.refused = {key: why for key, why in self.refused.items() if key in known}
        ours = {os.getpid(), 1, self.recorder.pid if self.recorder else 0}
        ranked = sorted(known, key=lambda key: (key not in self.chosen, -known[key].rss))
        by_name = {each.name: each for each in rules}
        counts = dict.fromkeys(by_name, 0)
        found: dict[Key, str] = {}
        for key in ranked if rules else ():
            process = known[key]
            old = now_ticks - process.started >= _LEAST_AGE_S * _TICKS
            if key[0] in ours or not old:
                continue
            rule: Rule | None = by_name[self.chosen[key]] if self._keeps(key) else None
            rule = rule or _rule_of(process, rules, chosen=key in self.chosen)
            if rule and key in self.refused:  # which takes nobody's place
                found[key] = rule.name
            elif rule and sum(counts.values()) < most and counts[rule.name] < rule.processes:
                counts[rule.name] += 1
                found[key] = rule.name
        left = [key for key in self.chosen if key not in found and key in known]
        self.chosen, self._chosen_by = found, rules
        if left and self.recorder and any(key[0] in self.entered for key in left):
            self.recorder.end()  # a rule is gone: the rest goes on in another recording

    def supervise(self, memory_bytes: int) -> float:
        """Start, watch or end the recorder; return the CPU time that it used since the last time.

        `memory_bytes`: what the agent itself takes.
        """
        self.read_status()
        recorder = self.recorder
        if recorder is None:
            self._start()
            return 0.0
        used = recorder.measure()
        if time.monotonic() - recorder.begun <= _BEGIN_S:
            used = 0.0  # the cost of a start, which is bounded by how seldom there is one
        if recorder.has_ended():
            self._ended(recorder)
        elif recorder.ending_at is not None:
            recorder.end()
        else:
            self._write_targets()
            self._check_cost(recorder, memory_bytes)
        return used

    def _keeps(self, key: Key) -> bool:
        """Return whether a chosen process stays one, though it calls itself otherwise now: the rules are the same."""
        name = self.chosen.get(key, "")
        return bool(name) and self._chosen_by == self.settings.rules

    def drain(self) -> bool:
        """Request the end of the recorder; return whether it has ended."""
        if self.recorder is None:
            return True
        self.recorder.end()
        return self.recorder.has_ended()

    def _wanted(self) -> list[Key]:
        return sorted(key for key in self.chosen if key not in self.refused)

    def _start(self) -> None:
        wanted = self._wanted()
        if not wanted or time.monotonic() < self._next_at:
            return
        self._written = None
        self._write_targets()
        with suppress(OSError):
            self._path("status").unlink()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        output = str(self._state / "recordings" / f"{moment}-{os.getpid()}.atlas")
        request = Request(
            output=output,
            targets=str(self._path("targets")),
            status=str(self._path("status")),
            lock=str(self._state / "lock"),
            sample_bytes=self.sample_bytes,
            budget=self.settings.cpu / 4,
        )
        with self._path("log").open("wb") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "mematlas.agent.profile.recorder",
                    request_text(request),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.recorder = Recorder(child.pid, read_started(child.pid) or -1, output, child)
        self.entered = set()
        found = {"pid": child.pid, "started": self.recorder.started, "output": output}
        replace_file(str(self._path("process")), json.dumps(found).encode())

    def _adopt(self) -> None:
        """Take over a recorder that runs. It may be our child: an agent that is upgraded stays the same process."""
        with suppress(OSError, ValueError, KeyError):
            found = json.loads(self._path("process").read_bytes())
            recorder = Recorder(
                int(found["pid"]), int(found["started"]), str(found["output"]), None
            )
            command = Path(f"/proc/{recorder.pid}/cmdline").read_bytes()
            if not recorder.has_ended() and b"mematlas.agent.profile.recorder" in command:
                self.recorder = recorder
                targets = json.loads(self._path("targets").read_bytes())
                self.chosen = {(int(pid), int(started)): "" for pid, started in targets}
                recorder.measure()

    def _ended(self, recorder: Recorder) -> None:
        """Take note of the end, and of targets that could not be entered."""
        if recorder.child is None:
            with suppress(ChildProcessError):
                os.waitpid(recorder.pid, os.WNOHANG)
        self.children_s += recorder.cpu_s
        if time.monotonic() - recorder.begun > _LONGEST_WAIT_S:
            self._wait_s = _FIRST_WAIT_S
        status = recorder.child.returncode if recorder.child is not None else 0
        if status > 0:
            with suppress(OSError):
                said = self._path("log").read_bytes()[-4000:].decode("utf-8", "replace").strip()
                self._refuse(said.rpartition("\n")[2].removeprefix("mematlas: "))
        if status:
            self._wait()
        self._next_at = max(self._next_at, recorder.begun + _APART_S)
        self.recorder, self.entered = None, set()

    def _wait(self) -> None:
        """Delay the next start, each time for longer."""
        self._next_at = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _refuse(self, said: str) -> None:
        """Remember the reason for each target that was not entered."""
        for key in self._written or ():
            if key[0] not in self.entered:
                own = re.search(rf"PID {key[0]} \(.*?\): ([^;]*)", said)
                self.refused[key] = own[1] if own else said or "the recorder failed"

    def _check_cost(self, recorder: Recorder, memory_bytes: int) -> None:
        """End a recording that takes more than the limits allow; the next one takes fewer samples."""
        settings = self.settings
        share = recorder.recent_share or 0.0
        if share > settings.cpu / 2 or recorder.rss + memory_bytes > settings.memory_bytes:
            self.ends += 1
            self.sample_bytes = min(self.sample_bytes * _SPARSER, _SPARSEST)
            self._wait()
            recorder.end()
            return
        with suppress(OSError):
            size = os.stat(recorder.output).st_size  # noqa: PTH116
            if size > settings.disk_bytes // _FILE_PART:
                recorder.end()  # the next file begins

    def read_status(self) -> None:
        """Read which processes the recorder has, and which it refused."""
        with suppress(OSError, ValueError, KeyError):
            found = json.loads(self._path("status").read_bytes())
            self.entered = {int(pid) for pid in found["entered"]}
            by_pid = {key[0]: key for key in self.chosen}
            if self.recorder:
                for pid in self.entered & by_pid.keys():
                    self._recordings.pop(by_pid[pid], None)
                    self._recordings[by_pid[pid]] = self.recorder.output
            while len(self._recordings) > _KEPT:
                del self._recordings[next(iter(self._recordings))]
            for pid, reason in found["refused"].items():
                if int(pid) in by_pid:
                    self.refused[by_pid[int(pid)]] = str(reason)

    def _write_targets(self) -> None:
        wanted = self._wanted()
        if wanted != self._written:
            replace_file(str(self._path("targets")), json.dumps(wanted).encode())
            self._written = wanted

    def _path(self, name: str) -> Path:
        return self._state / f"recorder.{name}"


def _rule_of(process: Process, rules: Iterable[Rule], *, chosen: bool) -> Rule | None:
    """Return the first rule that matches. One that was chosen stays, though it became smaller than its rule asks."""
    for rule in rules:
        if (chosen or process.rss >= rule.least_bytes) and rule.matches(
            process.name, process.command, process.cgroup or "", process.uid
        ):
            return rule
    return None
