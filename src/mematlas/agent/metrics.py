"""The metrics of the agent for Prometheus: a bounded number of series, whatever runs on the host."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from mematlas._version import __version__
from mematlas.agent.oom.report import charged_parts
from mematlas.agent.profile.targets import RECORDED, REFUSED, WAITING
from mematlas.serve.series import OTHER, TopNames, answer_format, encode, gauge, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from mematlas.agent.settings import AgentSettings
    from mematlas.agent.watch.groups import Group, Groups
    from mematlas.agent.watch.processes import Process

_GROUP = ("group", "container")


@dataclass(slots=True)
class OwnCost:
    """What the agent costs and how it is limited. Sizes in bytes."""

    cpu_s: float = 0.0
    recorder_cpu_s: float = 0.0
    share: float = 0.0
    slowdown: float = 1.0
    rss: int = 0
    recorder_rss: int = 0
    disk: int = 0
    write_failures: int = 0
    recordings_ended: int = 0
    reports: int = 0


@dataclass(slots=True)
class Sums:
    """Sums over processes. PSS of those that were read; `estimated` is what changed since."""

    processes: int = 0
    rss: int = 0
    pss: int = 0
    estimated: int = 0
    unread: int = 0

    def add(self, process: Process) -> None:
        """Add a process."""
        self.processes += 1
        self.rss += process.rss
        if process.pss is None:
            self.unread += 1
        else:
            self.pss += process.pss
            self.estimated += process.estimated

    def add_sums(self, other: Sums) -> None:
        """Add other sums."""
        for name in ("processes", "rss", "pss", "estimated", "unread"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class View:
    """What the metrics are made of."""

    groups: Groups
    processes: list[Process]
    cost: OwnCost
    profiles: dict[str, dict[str, int]] = field(default_factory=dict)  # processes by rule and state
    oldest_pss_s: float | None = None
    kills: int = 0
    left_out: int = 0
    stalls: dict[str, float] = field(default_factory=dict)  # seconds, by "some" and "full"


class AgentMetrics:
    """Renders the metrics; the answer is built once for each state of the agent and format."""

    def __init__(self, settings: AgentSettings, view: Callable[[], View]) -> None:
        """Render what `view` returns."""
        self._settings, self._view = settings, view
        self._groups: TopNames[str] = TopNames(settings.groups)
        self._commands: TopNames[str] = TopNames(settings.commands)
        self._lock = threading.Lock()
        self._kept: dict[str, bytes] = {}

    def forget(self) -> None:
        """Forget the answers: the agent has read anew."""
        self._kept.clear()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the format that a scraper accepts, and its content type."""
        kind = answer_format(accept)
        with self._lock:
            body = self._kept.get(kind)
            if body is None:
                body = self._kept[kind] = encode(list(self._families(self._view())), kind)
        return body, kind

    def _families(self, view: View) -> Iterator[Metric]:
        yield InfoMetricFamily("mematlas_agent", "The agent", value={"version": __version__})
        yield from _own(view, self._settings)
        yield from self._group_families(view)
        yield from self._command_families(view.processes)
        yield gauge("processes", "Processes with an address space", len(view.processes))
        yield CounterMetricFamily(
            "mematlas_oom_kills", "OOM kills since the agent started", value=view.kills
        )
        if view.stalls:
            stalls = CounterMetricFamily(
                "mematlas_stall_seconds",
                "Time in which some or all tasks of the machine waited for memory",
                labels=("kind",),
            )
            for kind, seconds in view.stalls.items():
                stalls.add_metric((kind,), seconds)
            yield stalls
        profiles = GaugeMetricFamily(
            "mematlas_profile_processes", "Processes that a rule chose", labels=("rule", "state")
        )
        for rule, states in sorted(view.profiles.items()):
            for state in (RECORDED, WAITING, REFUSED):
                profiles.add_metric((rule, state), states.get(state, 0))
        yield profiles

    def _group_families(self, view: View) -> Iterator[Metric]:
        by_path = dict(view.groups.by_path)
        ranked = sorted(by_path, key=lambda path: -by_path[path].usage)
        shown = self._groups.choose(ranked)
        labelled = {label(path): by_path[path] for path in reversed(ranked) if path in shown}
        groups = sorted(labelled.values(), key=lambda group: -group.usage)
        yield from _charges(groups)
        yield from _limits(groups)
        sums = _sum_up(view.processes, lambda process: process.cgroup or "")
        yield from _pss(
            "group", ("group",), {(path,): each for path, each in _bounded(sums, shown).items()}
        )
        left = len(ranked) - len(groups) + view.groups.left_out
        yield gauge("groups_left_out", "Memory cgroups without series of their own", left)

    def _command_families(self, processes: Iterable[Process]) -> Iterator[Metric]:
        sums = _sum_up(processes, lambda process: process.name)
        ranked = sorted(sums, key=lambda name: -(sums[name].pss or sums[name].rss))
        found = _bounded(sums, self._commands.choose(ranked))
        yield from _pss("command", ("command",), {(name,): each for name, each in found.items()})


def _sum_up(processes: Iterable[Process], name: Callable[[Process], str]) -> dict[str, Sums]:
    """Sum processes up by a name. One that shares its address space with another counts once."""
    every = list(processes)
    running = {each.pid for each in every}
    found: dict[str, Sums] = {}
    for each in every:
        if each.same_as not in running:
            found.setdefault(name(each), Sums()).add(each)
    return found


def _bounded(sums: dict[str, Sums], shown: set[str]) -> dict[str, Sums]:
    """Return the sums with labels; those not shown are one, so that all add up."""
    found: dict[str, Sums] = {}
    for name, each in sums.items():
        shown_as = label(name) if name in shown else OTHER
        found.setdefault(shown_as, Sums()).add_sums(each)
    return found


def _pss(what: str, labels: tuple[str, ...], sums: dict[tuple[str, ...], Sums]) -> Iterator[Metric]:
    pss = GaugeMetricFamily(
        f"mematlas_{what}_pss_bytes", "PSS of the processes that were read", labels=labels
    )
    estimated = GaugeMetricFamily(
        f"mematlas_{what}_pss_estimated_bytes",
        "Change of RSS since PSS was read: that much of the PSS is an estimate",
        labels=labels,
    )
    unread = GaugeMetricFamily(
        f"mematlas_{what}_processes_unread", "Processes whose PSS is not known", labels=labels
    )
    rss = GaugeMetricFamily(
        f"mematlas_{what}_rss_bytes", "Sum of RSS: shared pages count for each", labels=labels
    )
    count = GaugeMetricFamily(f"mematlas_{what}_processes", "Processes", labels=labels)
    for name, each in sorted(sums.items()):
        if each.processes > each.unread:
            pss.add_metric(name, each.pss)
            estimated.add_metric(name, each.estimated)
        unread.add_metric(name, each.unread)
        rss.add_metric(name, each.rss)
        count.add_metric(name, each.processes)
    yield from (pss, estimated, unread, rss, count)


def _charges(groups: Iterable[Group]) -> Iterator[Metric]:
    parts = GaugeMetricFamily(
        "mematlas_group_charged_bytes",
        "Parts of the memory charged to a cgroup and those below it; they add up to its usage",
        labels=(*_GROUP, "part"),
    )
    usage = GaugeMetricFamily(
        "mematlas_group_usage_bytes", "Memory charged to a cgroup and those below it", labels=_GROUP
    )
    reclaimable = GaugeMetricFamily(
        "mematlas_group_reclaimable_bytes", "What reclaim frees without writing", labels=_GROUP
    )
    kills = CounterMetricFamily(
        "mematlas_group_oom_kills", "OOM kills as the kernel counts them", labels=_GROUP
    )
    pressure = GaugeMetricFamily(
        "mematlas_group_pressure_ratio",
        "Share of the last 10 seconds in which some or all tasks waited for memory",
        labels=(*_GROUP, "kind"),
    )
    for group in groups:
        labels = _group_label(group)
        usage.add_metric(labels, group.usage)
        reclaimable.add_metric(labels, group.reclaimable)
        for kind, _, size in charged_parts(group.level):
            parts.add_metric((*labels, kind), size)
        if "oom_kill" in group.level.events:
            kills.add_metric(labels, group.level.events["oom_kill"])
        for kind, percent in group.level.pressure.items():
            pressure.add_metric((*labels, kind), percent / 100)
    yield from (usage, parts, reclaimable, kills, pressure)


def _limits(groups: Iterable[Group]) -> Iterator[Metric]:
    names = {
        "limit_bytes": "Limit of a cgroup",
        "growth_bytes_per_second": "Slope of the usage without what reclaim frees, where it rises",
        "limit_seconds": "Seconds until the limit, by that slope",
        "limit_error_seconds": "One standard error of these seconds",
        "forecast_error_bytes": "By how much forecasts for a minute ahead missed, root mean square",
    }
    found = {
        name: GaugeMetricFamily(f"mematlas_group_{name}", text, labels=_GROUP)
        for name, text in names.items()
    }
    for group in groups:
        if group.limit is None:
            continue
        labels, forecast = _group_label(group), group.forecast()
        found["limit_bytes"].add_metric(labels, group.limit)
        if forecast is not None:
            found["growth_bytes_per_second"].add_metric(labels, forecast.slope)
            found["limit_seconds"].add_metric(labels, forecast.seconds)
            found["limit_error_seconds"].add_metric(labels, forecast.error_s)
        if group.growth.missed_bytes is not None:
            found["forecast_error_bytes"].add_metric(labels, group.growth.missed_bytes)
    yield from found.values()


def _own(view: View, settings: AgentSettings) -> Iterator[Metric]:
    cost = view.cost
    cpu = CounterMetricFamily(
        "mematlas_agent_cpu_seconds", "CPU time of the agent and its recorder", labels=("process",)
    )
    rss = GaugeMetricFamily(
        "mematlas_agent_resident_bytes", "RSS of the agent and its recorder", labels=("process",)
    )
    for name, seconds, size in (
        ("agent", cost.cpu_s, cost.rss),
        ("recorder", cost.recorder_cpu_s, cost.recorder_rss),
    ):
        cpu.add_metric((name,), seconds)
        rss.add_metric((name,), size)
    yield from (cpu, rss)
    for name, text, limit in (
        ("cpu_limit_ratio", "CPU time, as a share of one core", settings.cpu),
        ("resident_limit_bytes", "RSS of the agent with its recorder", settings.memory_bytes),
        ("disk_limit_bytes", "Disk used by reports and recordings", settings.disk_bytes),
        ("profiled_processes_limit", "Processes profiled at once", settings.processes),
    ):
        yield gauge(f"agent_{name}", f"Limit: {text}", limit)
    yield gauge(
        "agent_cpu_ratio",
        "Share of one core: agent in the last minute, recorder in five",
        cost.share,
    )
    yield gauge(
        "agent_slowdown", "How many times longer its intervals are than planned", cost.slowdown
    )
    yield gauge("agent_disk_bytes", "Disk used by reports and recordings", cost.disk)
    if view.oldest_pss_s is not None:
        yield gauge("agent_pss_age_seconds", "Age of the oldest PSS", view.oldest_pss_s)
    yield gauge(
        "agent_processes_left_out", "Processes beyond the most that are kept", view.left_out
    )
    for name, text, value in (
        ("write_failures", "Lines of its history that could not be written", cost.write_failures),
        ("recordings_ended", "Recordings ended because of their cost", cost.recordings_ended),
        ("oom_reports", "Reports of OOM kills written", cost.reports),
    ):
        yield CounterMetricFamily(f"mematlas_agent_{name}", text, value=value)


def _group_label(group: Group) -> tuple[str, str]:
    return label(group.path), group.container
