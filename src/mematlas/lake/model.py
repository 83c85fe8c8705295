"""Models of a lake: its files, what is asked of it, and the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

Level: TypeAlias = Literal["function", "line", "file"]
LEVELS: tuple[Level, ...] = get_args(Level)
METRICS = ("live", "resident", "pss", "peak", "allocated")
"""Metrics of a lake, in bytes; of `allocated` means are bytes a second of recorded time."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One Parquet file of a lake. `day` and `service` are "" for tables that are not divided by them."""

    path: str
    table: str
    day: str
    service: str
    rows: int
    bytes: int
    tier: int  # how often its rows were merged
    hosts: int = 0  # distinct ones, of tables with hosts


@dataclass(frozen=True, slots=True)
class LakeState:
    """The files of a lake after a commit, and those that no reader starts with any more."""

    number: int = 0  # of the commit
    files: dict[str, LakeFile] = field(default_factory=dict)  # by path
    replaced: dict[str, float] = field(default_factory=dict)  # path: Unix time of its replacement

    def of_table(self, table: str) -> list[LakeFile]:
        """Return the files of a table, by path."""
        return sorted(
            (each for each in self.files.values() if each.table == table),
            key=lambda each: each.path,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which recordings are asked. None: all."""

    since: str | None = None  # first day, YYYY-MM-DD
    until: str | None = None  # last day
    service: str | None = None
    host: str | None = None
    version: str | None = None
    build: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def includes(self, file: LakeFile) -> bool:
        """Return whether a file can have rows of the selection, by its partition."""
        day, service = file.day, file.service
        return not (
            (day and self.since and day < self.since)
            or (day and self.until and day > self.until)
            or (service and self.service and service != self.service)
        )

    def words(self) -> str:
        """Return the selection as NAME=VALUE, joined by commas; "all recordings" for all."""
        days = None
        if self.since or self.until:
            days = f"{self.since or ''}..{self.until or ''}"
        named = {
            "service": self.service,
            "version": self.version,
            "build": self.build,
            "host": self.host,
            "day": self.since if self.since and self.since == self.until else days,
        }
        words = [f"{name}={value}" for name, value in named.items() if value]
        return ",".join([*words, *(f"{name}={value}" for name, value in self.labels)]) or (
            "all recordings"
        )


@dataclass(frozen=True, slots=True)
class AddedRecording:
    """What `lake add` did with one file. `outcome` is "added", "known" or "failed"."""

    file: str
    outcome: str
    run: str | None = None
    host: str | None = None
    service: str | None = None
    version: str | None = None
    day: str | None = None
    lines: int = 0
    note: str = ""  # why it failed, or what its figures lack


@dataclass(frozen=True, slots=True)
class Addition:
    """Result of `lake add`."""

    lake: str
    recordings: tuple[AddedRecording, ...]
    added: int
    known: int
    failed: int


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line, a function or a file of the program. `line` is None for functions and files."""

    function: str | None
    file: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class TopRow:
    """Memory of one line in the fleet."""

    code: CodeLine
    fleet_bytes: float  # sum of the means of the hosts
    hosts: int  # that have it
    mean_bytes: float  # of those hosts
    largest_bytes: float  # of one host


@dataclass(frozen=True, slots=True)
class Top:
    """The lines with most memory in the fleet. A host with two services counts as two."""

    by: str
    level: str
    selection: str
    hosts: int
    recordings: int
    fleet_bytes: float  # of all lines
    rows: tuple[TopRow, ...]


@dataclass(frozen=True, slots=True)
class TrendRow:
    """Memory of one line over the days. The code of the first row is None: all lines together."""

    code: CodeLine | None
    mean_bytes: tuple[float | None, ...]  # of a host, by day; None: no recording of that day
    change_bytes: float | None  # from the first day to the last; None: of one day


@dataclass(frozen=True, slots=True)
class Trend:
    """Memory of a host over the days."""

    by: str
    level: str
    selection: str
    days: tuple[str, ...]
    hosts: tuple[int, ...]  # by day
    rows: tuple[TrendRow, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One of two groups of recordings that are compared."""

    selection: str
    hosts: int
    recordings: int
    mean_bytes: float  # of a host, all lines


@dataclass(frozen=True, slots=True)
class Change:
    """Memory of one line in two groups, as the mean of a host."""

    code: CodeLine
    before_bytes: float
    after_bytes: float
    change_bytes: float


@dataclass(frozen=True, slots=True)
class LakeDiff:
    """What differs between two groups of recordings; no test of chance."""

    by: str
    level: str
    before: Side
    after: Side
    rows: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class GrownLine:
    """A line that grew across hosts, beyond what differs from host to host.

    Growth is a share of the bytes before, 0.2 is +20 %, beyond the change of the median line of a host. It is None for
    a line that is new. Invariant: low <= growth <= high.
    """

    code: CodeLine
    before_bytes: float  # mean of a host
    after_bytes: float
    change_bytes: float
    growth: float | None  # of the sum of the hosts
    low: float | None  # of its interval of 95 %
    high: float | None
    host_spread: float  # standard deviation from host to host, of the logarithm of the ratio
    hosts: int  # that have the line
    p_value: float
    q_value: float  # share of false ones among all lines that are at least as sure


@dataclass(frozen=True, slots=True)
class Regression:
    """Lines that grew from one group of recordings to another."""

    by: str
    level: str
    before: Side
    after: Side
    test: str  # "paired" or "welch"
    hosts: int  # that the test compares: of both groups, or the sum of the two groups
    false_discovery_rate: float
    tested: int
    untested: int  # lines on too few hosts
    small: int  # lines below the least size
    least_bytes: int
    service_growth: float | None  # median of all lines and hosts, as a share; None: too few lines
    detectable: float | None  # growth that is found 4 times of 5, of the median line
    rows: tuple[GrownLine, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """One service on one day of a lake."""

    day: str
    service: str
    recordings: int
    hosts: int
    versions: tuple[str | None, ...]
    with_lines: bool  # single recordings are kept, not their sums alone


@dataclass(frozen=True, slots=True)
class LakeSummary:
    """What a lake holds."""

    lake: str
    commit: int
    recordings: int
    files: int
    bytes: int
    rows: dict[str, int]  # by table
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What `lake compact` or `lake expire` did."""

    lake: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    deleted: int  # files that no reader needs any more
    expired_days: tuple[str, ...] = ()
    rows_expired: int = 0
