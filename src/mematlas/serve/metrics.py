"""The newest figures of a recording as Prometheus metrics."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from mematlas._version import __version__
from mematlas.recording.model import Past
from mematlas.report import frame_names, run_facts
from mematlas.report.analyse import sums
from mematlas.report.analyse.lines import lines
from mematlas.serve.series import OTHER, TopNames, answer_format, encode, gauge, label, own_rss
from mematlas.serve.state import OncePerReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from mematlas.recording.model import RecordingData, Run
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.report import Report
    from mematlas.serve.pusher import Pushes
    from mematlas.serve.state import ServedRecording, State

LINES = 50  # with a series of their own


class Metrics:
    """Renders the metrics of a recording. The answer to one reading is built once for each format."""

    def __init__(
        self, recording: ServedRecording, pushes: Mapping[str, Pushes] | None = None
    ) -> None:
        """Render the metrics of a served recording, and of the pushes to each collector."""
        self._recording, self._pushes = recording, pushes or {}
        self._top: TopNames[tuple[str, str, str]] = TopNames(LINES)
        self._counters = _Counters()
        self._families = OncePerReading(recording, self._make)
        self._kept: dict[str, OncePerReading[bytes]] = {}  # by content type
        self._counts: list[tuple[int, int]] = []  # of pushes, as `_kept` has them

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the format that a scraper accepts, and its content type."""
        kind = answer_format(accept)
        counts = [(each.sent, each.failed) for each in self._pushes.values()]
        if counts != self._counts:  # pushes go on where the recording does not grow
            self._counts, self._kept = counts, {}
        body = OncePerReading(
            self._recording, lambda _: encode([*self._families.get(), *self._pushed()], kind)
        )
        return self._kept.setdefault(kind, body).get(), kind

    def _make(self, state: State) -> list[Metric]:
        found = lines(state.report.stacks, "live")
        self._counters.begin(state.data.runs)
        return [*_families(state, found, self._counters), *self._lines(found)]

    def _pushed(self) -> Iterator[Metric]:
        if not self._pushes:
            return
        done = CounterMetricFamily("mematlas_pushes", "Profiles pushed", labels=("to",))
        failed = CounterMetricFamily(
            "mematlas_push_failures", "Attempts that failed", labels=("to",)
        )
        for name, each in self._pushes.items():
            done.add_metric((label(name),), each.sent)
            failed.add_metric((label(name),), each.failed)
        yield done
        yield failed

    def _lines(self, live: list[LineStats]) -> Iterator[Metric]:
        found: dict[tuple[str, str, str], tuple[int, int]] = {}
        for each in live:
            if each.bytes["live"]:
                name = _label(each)
                before = found.get(name, (0, 0))
                found[name] = before[0] + each.bytes["live"], before[1] + each.live_count
        ranked = sorted(found, key=lambda name: -found[name][0])
        chosen = self._top.choose(ranked)
        labels = ("function", "file", "line")
        size = GaugeMetricFamily(
            "mematlas_line_live_bytes",
            'Live bytes by the line of code that owns them; the rest is function="other"',
            labels=labels,
        )
        blocks = GaugeMetricFamily(
            "mematlas_line_live_blocks", "Live blocks by line", labels=labels
        )
        for name in ranked:
            if name in chosen:
                size.add_metric(name, found[name][0])
                blocks.add_metric(name, found[name][1])
        rest = [found[name] for name in ranked if name not in chosen]
        size.add_metric((OTHER, "", ""), sum(each[0] for each in rest))
        blocks.add_metric((OTHER, "", ""), sum(each[1] for each in rest))
        yield size
        yield blocks


class _Counters:
    """Sums of a run, none of which falls: what is added in another order differs in its last digits."""

    def __init__(self) -> None:
        self._runs: tuple[Run, ...] = ()
        self._highest: dict[str, float] = {}

    def begin(self, runs: tuple[Run, ...]) -> None:
        """Begin anew where the recording is of other runs."""
        if runs != self._runs:
            self._runs, self._highest = runs, {}

    def grow(self, name: str, value: float) -> float:
        """Return the highest value of a counter so far."""
        highest = self._highest[name] = max(value, self._highest.get(name, 0.0))
        return highest


def _families(state: State, live: list[LineStats], counters: _Counters) -> Iterator[Metric]:
    report = state.report
    info = {"version": __version__, "command": label(" ".join(report.command))}
    yield InfoMetricFamily("mematlas", "The recorded command", value=info)
    yield gauge("recording_complete", "1: the recording has its end", float(report.complete))
    yield gauge(
        "recording_timestamp_seconds",
        "Unix time at which the recording was read",
        state.time_ns / 1e9,
    )
    yield gauge("figures_seconds", "Seconds after the start, of the sums by line", state.time_s)
    running = sum(each.end_s is None for each in report.processes)
    yield gauge("processes", "Traced processes that run", running)
    account = report.last
    if run_facts.is_known(account):
        yield gauge("account_seconds", "Seconds after the start of the account", account.time_s)
        yield gauge(
            "resident_bytes", "RSS of the program, of several processes PSS", account.total_bytes
        )
        parts = GaugeMetricFamily(
            "mematlas_account_bytes",
            "Parts of the resident memory; they add up to it",
            labels=("part",),
        )
        for kind, size in run_facts.part_totals(account):
            parts.add_metric((kind,), size)
        yield parts
        highest = report.account.highest_rss_bytes
        if highest:
            yield gauge("resident_peak_bytes", "Highest RSS so far", highest)
    yield from _blocks(report, live)
    past = state.data.segment.past if state.data.segment else Past()
    yield from _allocated(state.data, past, counters)
    yield from _faults(report, past, counters)
    yield gauge(
        "sampling_bytes",
        "Mean bytes between two samples; 0: every allocation is recorded",
        0 if report.sampling.mode == "exact" else report.sampling.sample_bytes,
    )
    own = resource.getrusage(resource.RUSAGE_SELF)
    yield CounterMetricFamily(
        "mematlas_serve_cpu_seconds", "CPU time of this server", value=own.ru_utime + own.ru_stime
    )
    yield gauge("serve_resident_bytes", "RSS of this server", own_rss())


def _blocks(report: Report, live: list[LineStats]) -> Iterator[Metric]:
    from mematlas.report.analyse.table import StackTable

    table = StackTable.of(report.stacks)
    yield gauge("live_bytes", "Bytes of live blocks", table.columns.sum("live_bytes"))
    yield gauge("live_blocks", "Live blocks", table.columns.sum("live_count"))
    if report.sampling.mode != "exact":
        error = sum(each.error_bytes**2 for each in live) ** 0.5
        yield gauge("live_error_bytes", "Standard error of the live bytes", error)


def _allocated(data: RecordingData, past: Past, counters: _Counters) -> Iterator[Metric]:
    """Yield what was allocated. Columns of a report are rounded by stack, the sums of the past are not."""
    found = {"allocated_bytes": past.allocated_bytes, "allocations": past.allocations}
    for each in data.totals.values():
        owned = sums.have_owners(each.rows)
        for name in found:
            found[name] += float(sums.column(each.rows, name)[owned].sum(dtype=float))
    for name, text in (
        ("allocated_bytes", "Bytes allocated so far"),
        ("allocations", "Allocations so far"),
    ):
        value = counters.grow(name, found[name])
        yield CounterMetricFamily(f"mematlas_{name}", text, value=value)


def _faults(report: Report, past: Past, counters: _Counters) -> Iterator[Metric]:
    ends = [each for each in report.series if each.minor_faults]
    if not ends and not past.minor_faults:
        return
    minor = past.minor_faults + sum(each.minor_faults[-1] for each in ends)
    major = past.major_faults + sum(each.major_faults[-1] for each in ends)
    faults = CounterMetricFamily("mematlas_page_faults", "Page faults so far", labels=("kind",))
    for kind, count in (("minor", minor), ("major", major)):
        faults.add_metric((kind,), counters.grow(kind, count))
    yield faults


def _label(line: LineStats) -> tuple[str, str, str]:
    """Return function, file and line of an owner, cut in the middle where it is long."""
    frame = line.frame
    if frame is None:
        return ("unknown stack", "", "")
    number = str(frame.line) if frame.file and frame.line is not None else ""
    where = label(frame.file or frame.module or "")
    return label(frame_names.function_name(frame)), where, number
