"""Keeps a lake small and quick: compaction, and the end of old days."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mematlas.lake import log
from mematlas.lake.log import Commit
from mematlas.lake.model import LakeFile, LakeState, LakeSummary, Maintenance, Partition
from mematlas.lake.write import delete_orphans, delete_replaced, fitting, merge, read_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.lake.storage import Storage


def compact(store: Storage, *, grace_s: float) -> Maintenance:
    """Merge the files of each partition, and delete those that were replaced more than `grace_s` ago."""
    before = state = log.read_state(store)
    for files in _groups(state.files.values()):
        state = merge(store, files)
    state, deleted = delete_replaced(store, state, grace_s)
    return _result(store, before, state, deleted + delete_orphans(store, state))


def _groups(files: Iterable[LakeFile]) -> list[list[LakeFile]]:
    """Return the files that become one: of one partition, as many as may be merged."""
    partitions: dict[tuple[str, str, str], list[LakeFile]] = defaultdict(list)
    for each in files:
        partitions[each.table, each.day, each.service].append(each)
    found = []
    for members in partitions.values():
        rest = sorted(members, key=lambda each: (each.bytes, each.path))
        while rest:
            group = fitting(rest) or rest[:1]  # one may be full by itself
            rest = rest[len(group) :]
            found.append(group)
    return [group for group in found if len(group) > 1]


def expire(
    store: Storage, *, keep_days: int | None, keep_lines_days: int | None, today: str | None = None
) -> Maintenance:
    """Remove days from a lake: all of them, or only the rows of single recordings.

    A day is removed when it began more than so many days before `today` (UTC).
    """
    now = datetime.fromisoformat(today) if today else datetime.now(UTC)
    limits = [
        f"{now - timedelta(days=days):%Y-%m-%d}" if days is not None else ""
        for days in (keep_days, keep_lines_days)
    ]
    gone: list[LakeFile] = []

    def decide(state: LakeState) -> Commit | None:
        nonlocal gone
        gone = [
            each
            for each in state.files.values()
            if each.day
            and (each.day < limits[0] or (each.table == "lines" and each.day < limits[1]))
        ]
        return Commit(removed=[each.path for each in gone]) if gone else None

    before = log.read_state(store)
    state, _ = log.commit(store, "expire", decide)
    result = _result(store, before, state, 0)
    whole = {each.day for each in gone if each.table == "runs"}
    return replace(
        result,
        expired_days=tuple(sorted(whole)),
        rows_expired=sum(each.rows for each in gone),
    )


def _result(store: Storage, before: LakeState, after: LakeState, deleted: int) -> Maintenance:
    return Maintenance(
        lake=store.name,
        files_before=len(before.files),
        files_after=len(after.files),
        bytes_before=sum(each.bytes for each in before.files.values()),
        bytes_after=sum(each.bytes for each in after.files.values()),
        deleted=deleted,
    )


def summarise(store: Storage) -> LakeSummary:
    """Return what a lake holds, by day and service."""
    state = log.read_state(store)
    rows: dict[str, int] = defaultdict(int)
    for each in state.files.values():
        rows[each.table] += each.rows
    with_lines = {(each.day, each.service) for each in state.of_table("lines")}
    return LakeSummary(
        lake=store.name,
        commit=state.number,
        recordings=rows["runs"],
        files=len(state.files),
        bytes=sum(each.bytes for each in state.files.values()),
        rows=dict(rows),
        partitions=_partitions(store, state, with_lines),
    )


def _partitions(
    store: Storage, state: LakeState, with_lines: set[tuple[str, str]]
) -> tuple[Partition, ...]:
    recordings: dict[tuple[str, str], int] = defaultdict(int)
    hosts: dict[tuple[str, str], set[str]] = defaultdict(set)
    versions: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for file in state.of_table("runs"):
        table = read_file(store, file, ["day", "service", "host", "version"])
        keys = ["day", "service", "host", "version"]
        for row in table.group_by(keys).aggregate([([], "count_all")]).to_pylist():
            key = row["day"], row["service"]
            recordings[key] += row["count_all"]
            hosts[key].add(row["host"])
            versions[key].add(row["version"])
    return tuple(
        Partition(
            day=key[0],
            service=key[1],
            recordings=recordings[key],
            hosts=len(hosts[key]),
            versions=tuple(sorted(versions[key], key=lambda each: (each is None, each or ""))),
            with_lines=key in with_lines,
        )
        for key in sorted(recordings)
    )
