"""Writes rows into a lake: Parquet files, one commit for all of them, and the merging of small files."""

from __future__ import annotations

import io
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from mematlas.errors import MematlasError
from mematlas.lake import log, schema
from mematlas.lake.log import Commit
from mematlas.lake.model import LakeFile, LakeState
from mematlas.lake.storage import NotWrittenError, new_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from mematlas.lake.rows import RunRows
    from mematlas.lake.storage import Storage

MERGED = 16  # files of one tier, which become one of the next
FULL = 256 << 20  # bytes of a file that is not merged any more
FULL_ROWS = 2_000_000  # rows, likewise: merging holds them all, some 230 bytes each
GRACE_S = 3600.0  # how long a reader may go on with a state that it has read
ORPHAN_S = 24 * 3600.0  # age of a file that no commit named: its writer has ended
_ROW_GROUP = 500_000


class Writer:
    """Adds recordings to a lake. One commit adds all that one call is given, or nothing of it."""

    def __init__(self, store: Storage) -> None:
        """Write to a lake, which is made if there is none."""
        self.store = store
        log.make_lake(store)
        self._read: dict[str, frozenset[Any]] = {}  # the key of each row, by file

    def state(self) -> LakeState:
        """Return the newest state of the lake."""
        return log.read_state(self.store)

    def add(self, recordings: Sequence[RunRows]) -> set[str]:
        """Add recordings and return the runs that were not in the lake before."""
        written: list[LakeFile] = []
        added: set[str] = set()

        def decide(state: LakeState) -> Commit | None:
            nonlocal written
            fresh = self._fresh(state, recordings)
            if not fresh:
                added.clear()
                return None
            if fresh.keys() != added or not written:  # else the files of the last attempt are right
                self._remove(written)
                added.clear()
                added.update(fresh)
                written = self.write(self._tables(state, fresh))
            return Commit(written)

        try:
            _, done = log.commit(self.store, "add", decide)
        except NotWrittenError:
            self._remove(written)
            raise
        if not done:
            self._remove(written)
        return set(added)

    def add_tables(self, tables: Mapping[str, pa.Table]) -> LakeState:
        """Add rows of `runs`, `labels`, `lines` and `names`, which are known to be new."""
        files = self.write(tables)
        return log.commit(self.store, "add", lambda _: Commit(files))[0]

    def write(self, tables: Mapping[str, pa.Table], tier: int = 0) -> list[LakeFile]:
        """Write rows into new files of their partitions, those of `rollup` made from `lines`.

        Where one cannot be written, as on a full disk, the others are removed.
        """
        tables = dict(tables)
        if "lines" in tables:
            tables["rollup"] = schema.roll_up(tables["lines"])
        written: list[LakeFile] = []
        try:
            for name, rows in tables.items():
                for day, service, part in _partitions(name, rows):
                    written.append(write_file(self.store, name, day, service, part, tier))
        except BaseException:
            self._remove(written)
            raise
        return written

    def _fresh(self, state: LakeState, recordings: Sequence[RunRows]) -> dict[str, RunRows]:
        days = {each.run["day"] for each in recordings}
        files = (each for each in state.of_table("runs") if each.day in days)
        known = self._known(files, "run")
        return {each.run["run"]: each for each in recordings if each.run["run"] not in known}

    def _known(self, files: Iterable[LakeFile], key: str) -> set[Any]:
        """Return the keys of the rows of some files, each of which is read once."""
        known: set[Any] = set()
        for file in files:
            if file.path not in self._read:
                column = read_file(self.store, file, [key])[key]
                self._read[file.path] = frozenset(column.to_pylist())
            known |= self._read[file.path]
        return known

    def _tables(self, state: LakeState, fresh: Mapping[str, RunRows]) -> dict[str, pa.Table]:
        known = self._known(state.of_table("names"), "line_id")
        names = {number: row for each in fresh.values() for number, row in each.names.items()}
        rows = {
            "runs": [each.run for each in fresh.values()],
            "labels": [row for each in fresh.values() for row in each.labels],
            "lines": [row for each in fresh.values() for row in each.lines],
            "names": [row for number, row in names.items() if number not in known],
        }
        return {name: to_table(name, found) for name, found in rows.items() if found}

    def _remove(self, files: Iterable[LakeFile]) -> None:
        for each in files:
            self.store.remove(each.path)


def to_table(table: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return rows as an Arrow table of the schema."""
    import pyarrow as pa

    kinds = schema.arrow_schema(table)
    return schema.join_rows(table, [pa.Table.from_pylist(list(rows), kinds)])


def _partitions(table: str, rows: pa.Table) -> list[tuple[str, str, pa.Table]]:
    """Divide rows by day and service, as far as the table is divided."""
    import pyarrow.compute as pc

    names = [name for name in ("day", "service") if table in _DIVIDED[name]]
    if not names or not len(rows):
        return [("", "", rows)] if len(rows) else []
    found = []
    keys = rows.select(names).group_by(names, use_threads=False).aggregate([])
    for key in keys.to_pylist():
        part = rows
        for name in names:
            part = part.filter(pc.equal(part[name], key[name]))
        found.append((key["day"], key.get("service", ""), part))
    return sorted(found, key=lambda each: each[:2])


_DIVIDED = {"day": schema.BY_DAY, "service": schema.BY_SERVICE}


def write_file(
    store: Storage, table: str, day: str, service: str, rows: pa.Table, tier: int
) -> LakeFile:
    """Write one Parquet file under a new name."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", row_group_size=_ROW_GROUP)
    path = new_path(table, day, service)
    data = sink.getvalue()
    store.write(path, data)
    hosts = len(rows["host"].unique()) if "host" in rows.column_names else 0
    return LakeFile(path, table, day, service, len(rows), len(data), tier, hosts)


def read_file(store: Storage, file: LakeFile, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of a file."""
    import pyarrow.parquet as pq

    content = io.BytesIO(store.read(file.path))
    return pq.read_table(content, columns=columns, use_threads=False, pre_buffer=False)


def merge_small(store: Storage, state: LakeState) -> LakeState:
    """Merge files where MERGED of one tier are in a partition, so that files stay few however many are added.

    Each row is written anew once for each tier: the logarithm of the number of files.
    """
    while True:
        groups: dict[tuple[str, str, str, int], list[LakeFile]] = defaultdict(list)
        for each in state.files.values():
            if each.bytes < FULL and each.rows < FULL_ROWS:
                groups[each.table, each.day, each.service, each.tier].append(each)
        full = [files for files in map(fitting, groups.values()) if len(files) >= MERGED]
        if not full:
            return state
        for files in full:
            state = merge(store, files)


def fitting(files: Sequence[LakeFile]) -> list[LakeFile]:
    """Return the smallest files, as many as FULL and FULL_ROWS allow: merging holds the rows of all of them."""
    found: list[LakeFile] = []
    size = rows = 0
    for each in sorted(files, key=lambda each: (each.bytes, each.path)):
        size, rows = size + each.bytes, rows + each.rows
        if size > FULL or rows > FULL_ROWS:
            break
        found.append(each)
    return found


def merge(store: Storage, files: Sequence[LakeFile]) -> LakeState:
    """Replace files of one partition by one; without effect if another writer has replaced one of them."""
    first = files[0]
    try:
        pieces = [read_file(store, each) for each in files]
    except FileNotFoundError as error:
        return _after_a_loss(store, files, str(error))
    rows = schema.join_rows(first.table, pieces)
    tier = max(each.tier for each in files) + 1
    merged = write_file(store, first.table, first.day, first.service, rows, tier)
    paths = [each.path for each in files]

    def decide(state: LakeState) -> Commit | None:
        return Commit([merged], paths) if all(each in state.files for each in paths) else None

    state, done = log.commit(store, "merge", decide)
    if not done:
        store.remove(merged.path)
    return state


def _after_a_loss(store: Storage, files: Sequence[LakeFile], lost: str) -> LakeState:
    """Return the newest state, where another writer has replaced files that could not be read."""
    state = log.read_state(store)
    if all(each.path in state.files for each in files):
        raise MematlasError(f"{store.name} is damaged: {lost}")
    return state


def delete_replaced(store: Storage, state: LakeState, grace_s: float) -> tuple[LakeState, int]:
    """Delete files that were replaced more than `grace_s` ago, and old commits; return how many files."""
    before = time.time() - grace_s
    gone = [path for path, at in state.replaced.items() if at <= before]
    for path in gone:
        store.remove(path)
    log.remove_old_entries(store, state, before)
    if not gone:
        return state, 0
    state, _ = log.commit(store, "delete", lambda _: Commit(deleted=gone))
    return state, len(gone)


def delete_orphans(store: Storage, state: LakeState) -> int:
    """Delete files of writers that were killed before their commit; return how many."""
    before = time.time() - ORPHAN_S
    known = state.files.keys() | state.replaced.keys()
    found = [
        path
        for folder in (*schema.TABLES, log.FOLDER)
        for path, changed in store.paths(folder)
        if changed < before
        and path not in known
        and (folder != log.FOLDER or path.endswith(".part"))
    ]
    for path in found:
        store.remove(path)
    return len(found)
