"""The run in words: sampling, start, duration, processes and the time of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import clean
from mematlas.report.titles import PART_TITLES
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.recording.model import Sampling
    from mematlas.report.model.report import Account, OwnPeak, ProcessSummary, Report

_NAMED = 4  # processes

_PEAK_PERCENT = (
    99  # of the highest RSS, and above: the peak itself, as the kernel's counters tell it
)


def sampling(settings: Sampling) -> str:
    """Format the sampling mode."""
    if settings.mode == "exact":
        return "every allocation recorded"
    return f"sampled about every {format_bytes(settings.sample_bytes)}, with standard errors"


def start_time(started: str) -> str:
    """Format the start of a run: "2026-11-23 09:14:07 UTC"."""
    return clean(started).replace("T", " ").replace("Z", " UTC").replace("+00:00", " UTC")


def process_count(report: Report) -> str:
    """Count the processes and the programs that exec started in them; "" for a single one."""
    images, processes = len(report.processes), len({each.pid for each in report.processes})
    if images < 2:
        return ""
    text = "1 process" if processes == 1 else f"{processes:,} processes"
    return text if images == processes else f"{text} that ran {images:,} programs"


def duration_s(report: Report) -> float | None:
    """Return the seconds from the start to the last recorded event; None if there is none."""
    ends = [line.end_s for line in report.processes if line.end_s is not None]
    ends += [series.time_s[-1] for series in report.series if series.time_s]
    ends += [each.time_s for each in (report.account, report.last) if each.parts]
    return max(ends, default=None)


def was_detached(report: Report) -> bool:
    """Return whether tracing was detached from each process before its end."""
    return bool(report.processes) and all(each.ending == "detached" for each in report.processes)


def account_time(account: Account, *, detached: bool = False) -> str:
    """Format the time of an account, and how near it is to the peak: "at 838 ms, at exit, at the highest RSS"."""
    reason = {
        "exit": "at detach" if detached else "at exit",
        "stopped": "program stopped",
        "mark": "at a mark",
    }.get(account.trigger, "")
    words = [f"at {format_duration(account.time_s)}", reason, share_of_highest(account)]
    return ", ".join(filter(None, words))


def share_of_highest(account: Account) -> str:
    """Format RSS against the highest of the run: "at 97 % of the highest RSS"; "" if that is unknown."""
    if account.highest_rss_bytes <= 0:
        return ""
    percent = int(100 * account.rss_bytes / account.highest_rss_bytes)
    if percent >= _PEAK_PERCENT:
        return "at the highest RSS"
    return f"at {percent} % of the highest RSS of {format_bytes(account.highest_rss_bytes)}"


def account_sum(account: Account) -> str:
    """Format how memory of several processes adds up: ", PSS of 5 processes (RSS 326 MiB)"."""
    if not account.counted_once:
        return ""
    return f", PSS of {account.processes} processes (RSS {format_bytes(account.rss_bytes)})"


def own_peak(report: Report, peak: OwnPeak) -> str:
    """Format which processes had memory that the account does not have, and whether they have ended."""
    known = {each.index: each for each in report.processes}
    some = [known[index] for index in peak.processes if index in known]
    pids = ", ".join(str(each.pid) for each in some[:_NAMED]) + (", ..." if some[_NAMED:] else "")
    ends = [each.end_s for each in some if each.end_s is not None]
    if len(peak.processes) == 1:
        text = f"in process {pids}" if pids else "in a fork before its exec"
    else:
        named = f" ({pids})" if pids else ""  # what lived between fork and exec is not listed
        text = f"in {len(peak.processes):,} processes{named}, {format_bytes(peak.largest_bytes)} at most"
    if not report.account.parts or not some or len(ends) < len(peak.processes):
        return text
    if max(ends) < report.account.time_s:
        return f"{text}; ended before the account"
    if min(each.start_s for each in some) > report.account.time_s:
        return f"{text}; began after the account"
    return f"{text}; at another time than the account"


def is_known(account: Account) -> bool:
    """Return whether an account comes from a snapshot; without one only its RSS may be known."""
    return bool(account.parts)


def part_totals(account: Account) -> list[tuple[str, int]]:
    """Sum the bytes of an account by kind of part, in the order of PART_TITLES."""
    sums: dict[str, int] = {}
    for part in account.parts:
        sums[part.kind] = sums.get(part.kind, 0) + part.resident_bytes
    if account.unexplained_bytes:
        sums["unexplained"] = account.unexplained_bytes
    return [(kind, sums[kind]) for kind in PART_TITLES if kind in sums]


def process_tree(processes: tuple[ProcessSummary, ...]) -> list[tuple[ProcessSummary, int]]:
    """Return processes with their depth, each after its parent."""
    known = {line.index for line in processes}
    children: dict[int | None, list[ProcessSummary]] = {}
    for line in processes:
        parent = line.parent_index if line.parent_index in known - {line.index} else None
        children.setdefault(parent, []).append(line)
    waiting = [(line, 0) for line in reversed(children.get(None, []))]
    found: list[tuple[ProcessSummary, int]] = []
    while waiting:
        line, depth = waiting.pop()
        found.append((line, depth))
        waiting += [(child, depth + 1) for child in reversed(children.pop(line.index, []))]
    return found
