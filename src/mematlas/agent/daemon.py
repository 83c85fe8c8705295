"""The loop of the agent: what is read each second, what when there is time, and its signals."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.agent.history import History, read_last
from mematlas.agent.metrics import AgentMetrics, OwnCost, View
from mematlas.agent.oom import store
from mematlas.agent.oom.kills import Kills
from mematlas.agent.oom.missed import find_missed
from mematlas.agent.oom.report import Kept, make_report
from mematlas.agent.pace import Pace
from mematlas.agent.pages import AgentServer
from mematlas.agent.profile.targets import Targets
from mematlas.agent.service import (
    SOCKET,
    catch_signals,
    inherited_socket,
    notify,
    say,
    socket_words,
    take_folder,
)
from mematlas.agent.settings import load_settings
from mematlas.agent.watch.groups import Groups
from mematlas.agent.watch.hung import Readings
from mematlas.agent.watch.processes import Processes
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.cgroup import upwards
from mematlas.linux.machine import parse_pressure
from mematlas.serve.address import parse_address, protect
from mematlas.serve.series import own_rss
from mematlas.units import format_count

if TYPE_CHECKING:
    from mematlas.agent.oom.kills import Kill
    from mematlas.agent.settings import AgentSettings
    from mematlas.agent.watch.processes import Process

_TICK_S = 1.0
_ROUND_S = 10.0  # between two rounds of all processes, where there is time
_FIND_S = 15.0  # between two looks for new groups
_TURN_S = 15.0  # between two whole readings of all groups
_RENDER_S = 2.0  # for which the answer to a scraper holds
_KEEP_S = 10.0  # between two lines of all groups and processes on disk
_CHOOSE_S = 5.0
_PRUNE_S = 60.0
_NEAR_PROCESSES = 32  # of groups near their limit, that are read each second
_PSS_EACH_TICK = 8
_HISTORY_PART = 16  # of the limit on disk, that each of its two files may take
_DRAIN_S = 60.0
_STUCK_S = 60.0  # without a tick
_MOST_SLOWDOWN = 120.0  # from which scrapers are refused
_NOT_YET = (signal.SIGHUP, signal.SIGUSR2)  # would end a program that has no handlers yet
_FIXED = ("listen", "state", "token_file", "tls_cert", "tls_key")  # as long as the agent runs


class Agent:
    """The agent of a host. One runs for each folder of its state."""

    def __init__(self, settings: AgentSettings, config: str | None) -> None:
        """Take the folder and the address. Raises UsageError or AccessError with the reason if that fails."""
        self.settings, self._config = settings, config
        self._lock = take_folder(settings.state)
        self.pace = Pace(settings.cpu)
        self.groups, self.kills = Groups(), Kills()
        self._readings = Readings(settings.state)
        self.processes = Processes(absolute=self.groups.absolute, readings=self._readings)
        self.cost = OwnCost()
        self.history = History(settings.state, settings.disk_bytes // _HISTORY_PART)
        self.targets = Targets(settings)
        self._stalls: dict[str, float] = {}
        self._numbers = 0
        self._ticked = time.monotonic()
        self._due: dict[str, float] = {}
        self._flags: set[int] = set()
        self._rendered = 0.0
        address = parse_address(settings.listen)
        protection = protect(address, settings.token_file, settings.tls_cert, settings.tls_key)
        self.server = AgentServer(
            address,
            protection,
            inherited_socket(settings.listen),
            self._is_stuck,
            lambda: self.pace.slowdown > _MOST_SLOWDOWN,
        )
        self.metrics = AgentMetrics(settings, self._view)
        self.server.metrics = self.metrics

    def run(self) -> int:
        """Observe until SIGTERM or SIGINT; return the exit code."""
        wake = catch_signals(
            self._flags, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        say(f"observing this host, metrics on {self.server.url}/metrics")
        self.groups.find(time.monotonic())
        self._tell_missed()
        notify("READY=1")
        while True:
            begun = time.monotonic()
            self._tick(begun)
            if self._obey():
                break
            rest = _TICK_S - (time.monotonic() - begun)
            if select.select([wake], [], [], max(0.01, rest))[0]:
                with suppress(BlockingIOError):
                    os.read(wake, 64)
        self._drain()
        return 0

    def _obey(self) -> bool:
        """Act on signals; return whether one asks for the end."""
        if signal.SIGHUP in self._flags:
            self._flags.discard(signal.SIGHUP)
            self._reload()
        if signal.SIGUSR2 in self._flags:
            self._flags.discard(signal.SIGUSR2)
            self._upgrade()
        return bool(self._flags & {signal.SIGTERM, signal.SIGINT})

    # One second

    def _tick(self, now: float) -> None:
        """Do what cannot wait, then what can, as long as there is CPU time left."""
        since, self._ticked = self._ticked, now
        for kill in self.kills.look(self.groups, now):
            self._report(kill, now, since)
        # Also without time: an OOM kill may be in a new group.
        if self._is_due("find", _FIND_S, now):
            self.groups.find(now)
        self.groups.read_usages(now, self.pace.has_time)
        self._watch_near(now)
        used = self._supervise()
        self.pace.update(used)
        if self.pace.has_time():
            self._read_in_turn(now)
        self._measure()
        if now - self._rendered > _RENDER_S and self.pace.has_time():
            self._rendered = now
            self.metrics.forget()
        notify("WATCHDOG=1")

    def _supervise(self) -> float:
        """Supervise the recorder. A full disk must not end the agent."""
        try:
            return self.targets.supervise(own_rss())
        except OSError:
            self.history.failures += 1
            return 0.0

    def _watch_near(self, now: float) -> None:
        """Read the processes of groups near their limit, and keep them on disk."""
        near = {each.path: each for each in self.groups if each.near}
        if not near:
            return
        paths = {each.cgroup for each in self.processes if each.cgroup}  # many have the same
        below = {path for path in paths if any(above in near for above in upwards(path))}
        members = [each for each in self.processes if each.cgroup in below]
        members = sorted(members, key=lambda each: -each.rss)[:_NEAR_PROCESSES]
        self.processes.read_rss(members, now)
        sizes = {each.pid: each.rss for each in members}
        self.history.write_near(
            {path: (group.usage, {}) for path, group in near.items()} | {"": (0, sizes)}
        )

    def _read_in_turn(self, now: float) -> None:
        """Read what can wait, the cheap before the dear."""
        has_time = self.pace.has_time
        if self._is_due("round", _ROUND_S, now):
            self.processes.begin_round()
            self.groups.read_others(now)
            self._stalls = _read_stalls()
        if self._is_due("turn", _TURN_S, now):
            self.groups.begin_turn()
        self.processes.read_some(now, has_time)
        while has_time() and self.groups.read_next(now):
            pass
        for _ in range(_PSS_EACH_TICK):
            process = self.processes.next_pss(now) if has_time() else None
            if process is None or not has_time(process.cost_s):
                break
            self.processes.read_pss(process, now)
        self._keep(now)

    def _keep(self, now: float) -> None:
        # A recorder that was taken over may have targets of rules that are gone.
        profiles = self.settings.rules or self.targets.recorder
        if self._is_due("choose", _CHOOSE_S, now) and profiles:
            ticks = os.sysconf("SC_CLK_TCK")
            self.targets.choose(
                self.processes, int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks)
            )
        if self._is_due("keep", _KEEP_S, now):
            self.history.write_all(self.kills.machine, self.groups, self.processes)
        if self._is_due("prune", _PRUNE_S, now):
            busy = [self.targets.recorder.output] if self.targets.recorder else []
            self.cost.disk = store.prune(self.settings.state, self.settings.disk_bytes, busy)

    def _is_due(self, name: str, each_s: float, now: float) -> bool:
        if now < self._due.get(name, 0.0):
            return False
        self._due[name] = now + each_s
        return True

    def _measure(self) -> None:
        cost, recorder = self.cost, self.targets.recorder
        cost.cpu_s = time.process_time()
        cost.recorder_cpu_s = self.targets.children_s + (recorder.cpu_s if recorder else 0.0)
        cost.share = self.pace.recent_share + ((recorder and recorder.recent_share) or 0.0)
        cost.slowdown, cost.rss = self.pace.slowdown, own_rss()
        cost.recorder_rss = recorder.rss if recorder else 0
        cost.write_failures, cost.recordings_ended = self.history.failures, self.targets.ends

    # Reports

    def _report(self, kill: Kill, now: float, since: float) -> None:
        """Write the report of a kill after `since`, with the recording of who was killed."""
        self.targets.read_status()
        gone = {
            (each.pid, each.started): each for each in self.processes.gone if each.ended_at >= since
        }
        every = gone | {(each.pid, each.started): each for each in self.processes}
        self._save(kill, self._kept(list(every.values()), now))

    def _kept(self, processes: list[Process], now: float) -> Kept:
        return Kept(self.groups, processes, self.targets.recording_of, self.processes.is_alive, now)

    def _save(self, kill: Kill, kept: Kept) -> None:
        """Write the report of a kill. A full disk is said, and the agent goes on."""
        self._numbers += 1
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        report = make_report(kill, kept, f"{moment}-{os.getpid()}{self._numbers:03}")
        killed = [each.recording for each in report.killed if each.recording]
        name = store.keep_recording(self.settings.state, report.id, killed[0]) if killed else ""
        processes = tuple(
            replace(each, recording=name if killed and each.recording == killed[0] else "")
            for each in report.processes
        )
        report = replace(report, processes=processes)
        try:
            store.write_report(self.settings.state, report)
        except OSError as error:
            self.history.failures += 1
            say(f"an OOM report cannot be written: {error.strerror}")
            return
        self.cost.reports += 1
        # An agent that starts reports what is newer than this.
        self.history.write_all(self.kills.machine, self.groups, self.processes)
        say(
            f"OOM kill of {report.victims or 'a process'}: {report.cause}; mematlas oom {report.id}"
        )

    def _tell_missed(self) -> None:
        """Report the kills that happened while no agent ran."""
        last = read_last(self.settings.state)
        if last is None:
            return
        kills, processes = find_missed(last, self.groups, self.kills)
        kept = self._kept(processes, time.monotonic())
        for kill in kills:
            self._save(kill, kept)

    # Signals

    def _reload(self) -> None:
        """Read the settings again; a mistake in them leaves those of before."""
        try:
            settings = load_settings(self._config)
            changed = [x for x in _FIXED if getattr(settings, x) != getattr(self.settings, x)]
            if changed:
                words = " and ".join(changed)
                raise UsageError(
                    f"a change of {words} takes effect at a restart, or an upgrade by SIGUSR2"
                )
        except MematlasError as error:
            say(f"settings not changed: {error}")
            return
        self.settings = self.targets.settings = settings
        self.targets.sample_bytes = settings.sample_bytes
        self.pace.share = settings.cpu
        self.metrics = AgentMetrics(settings, self._view)
        self.server.metrics = self.metrics
        self._due.pop("choose", None)
        if not settings.rules:
            self.targets.choose([], 0)
            if self.targets.recorder:
                self.targets.recorder.end()
        say(f"settings read, {format_count(len(settings.rules), 'rule')}")

    def _upgrade(self) -> None:
        """Begin the program anew in this process: the socket stays open, and the recorder goes on."""
        say("begins anew")
        self.history.write_all(self.kills.machine, self.groups, self.processes)
        file = self.server.socket.fileno()
        os.set_inheritable(file, True)
        environment = os.environ | {SOCKET: socket_words(file, self.settings.listen)}
        before = [(each, signal.signal(each, signal.SIG_IGN)) for each in _NOT_YET]
        try:
            os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
        except OSError as error:
            os.set_inheritable(file, False)
            for number, handler in before:
                signal.signal(number, handler)
            say(f"cannot begin anew: {error.strerror}")

    def _drain(self) -> None:
        """End the recording, so that it has its end, and the server."""
        notify("STOPPING=1")
        say("ending")
        end = time.monotonic() + _DRAIN_S
        while not self.targets.drain() and time.monotonic() < end:
            time.sleep(0.1)
        self.history.write_all(self.kills.machine, self.groups, self.processes)
        self.server.shutdown()
        self.server.close()
        self.history.close()
        self._readings.close()
        self.kills.close()
        self.groups.close()
        os.close(self._lock)

    # Pages

    def _is_stuck(self) -> bool:
        return time.monotonic() - self._ticked > _STUCK_S

    def _view(self) -> View:
        processes = list(self.processes.by_pid.values())
        read = [each.read_at for each in processes if each.sizes]
        profiles: dict[str, dict[str, int]] = {each.name: {} for each in self.settings.rules}
        for key, rule in list(self.targets.chosen.items()):
            # Else it is gone, or not known yet of a recorder that was taken over.
            if rule in profiles:
                states, state = profiles[rule], self.targets.state_of(key)
                states[state] = states.get(state, 0) + 1
        return View(
            groups=self.groups,
            processes=processes,
            cost=self.cost,
            profiles=profiles,
            oldest_pss_s=time.monotonic() - min(read) if read else None,
            kills=self.kills.count,
            left_out=self.processes.left_out,
            stalls=self._stalls,
        )


def _read_stalls() -> dict[str, float]:
    """Read for how long tasks of the machine waited for memory, in seconds; {} where it is not known."""
    try:
        stalls = parse_pressure(Path("/proc/pressure/memory").read_text())
    except OSError:
        return {}
    return {each.kind: each.total_us / 1e6 for each in stalls}
