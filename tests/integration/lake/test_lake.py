"""A lake against answers in plain Python: all engines, writers that are killed, writers at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

pytest.importorskip("ibis", reason="ibis-framework is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")

import pyarrow.parquet as pq

from lake_rows import host_means, recording
from mematlas.errors import MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.lake import answers, log, maintain, write
from mematlas.lake.engines import open_engine
from mematlas.lake.log import read_state
from mematlas.lake.model import Selection
from mematlas.lake.query import Lake
from mematlas.lake.storage import Folder
from mematlas.lake.write import Writer, merge_small, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.lake.rows import RunRows
    from mematlas.lake.storage import Storage

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_arrow_table:DeprecationWarning"  # ibis 12 with DuckDB 2
)
HOSTS = 8


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync(): these tests end processes, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def fleet() -> list[RunRows]:
    """Return recordings of 8 hosts, 2 services, 2 versions and 4 days, with lines that come, go and grow."""
    found = []
    for host in range(HOSTS):
        for day in range(1, 5):
            version = "v1" if day < 3 else "v2"
            size = 100_000 * (host + 1) + 1_000 * day
            lines = {"steady": size, "grown": size if version == "v1" else 2 * size}
            lines |= {f"line{number}": size + 7_000 * number for number in range(12)}
            if (host + day) % 2:
                lines["sometimes"] = 3 * size
            if version == "v2":
                lines["new"] = 500_000
            found.append(
                recording(
                    f"run-{host}-{day}",
                    lines,
                    host=f"h{host}",
                    service="web" if host < 6 else "jobs/night",
                    version=version,
                    day=f"2026-11-{day:02}",
                    labels={"region": "eu" if host % 2 else "us"},
                    seconds=10.0 * day,
                    resident_known=day != 4,
                )
            )
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return a lake with the fleet, added in several commits."""
    store = Folder(str(tmp_path_factory.mktemp("lake") / "lake"))
    recordings = fleet()
    for start in range(0, len(recordings), 5):
        Writer(store).add(recordings[start : start + 5])
    return store


def opened(store: Folder, engine: str = "duckdb") -> Lake:
    """Return a lake in an engine; skip where the engine is not installed."""
    try:
        return Lake(store, read_state(store), open_engine(engine, store))
    except UnsupportedError as error:
        pytest.skip(str(error))


def test_top_is_the_sum_of_the_means_of_hosts(store: Folder) -> None:
    """Rows agree with plain Python; a recording without a line counts as 0 in the mean of its host."""
    means = host_means(fleet())
    found = answers.top(opened(store), Selection(), by="live", level="line", most=100)
    assert (found.hosts, found.recordings) == (HOSTS, 4 * HOSTS)
    expected = {
        name: sum(each.get(name, 0.0) for each in means.values())
        for name in set().union(*means.values())
    }
    assert {each.code.function: each.fleet_bytes for each in found.rows} == pytest.approx(expected)
    assert found.fleet_bytes == pytest.approx(sum(expected.values()))
    assert [each.fleet_bytes for each in found.rows] == sorted(expected.values(), reverse=True)
    for row in found.rows:
        values = [each[row.code.function] for each in means.values() if row.code.function in each]
        assert row.hosts == len(values)
        assert row.largest_bytes == pytest.approx(max(values))


def test_levels_add_up(store: Folder) -> None:
    """The one file has what all lines have."""
    whole = answers.top(opened(store), Selection(), by="live", level="file", most=5)
    assert [each.code.file for each in whole.rows] == ["/srv/app/app.py"]
    assert whole.rows[0].fleet_bytes == pytest.approx(whole.fleet_bytes)


@pytest.mark.parametrize("name", ["h1", "h7"])
def test_labels_and_hosts_ask_the_same_recordings(store: Folder, name: str) -> None:
    """Rows of single recordings, which labels need, give what the sums by host and day give."""
    by_sum = answers.top(opened(store), Selection(host=name), by="live", level="line", most=50)
    labelled = Selection(host=name, labels=(("region", "eu"),))
    by_row = answers.top(opened(store), labelled, by="live", level="line", most=50)
    assert [each.code for each in by_row.rows] == [each.code for each in by_sum.rows]
    sizes = [each.fleet_bytes for each in by_sum.rows]
    assert [each.fleet_bytes for each in by_row.rows] == pytest.approx(sizes)
    other = Selection(host=name, labels=(("region", "us"),))
    with pytest.raises(UsageError, match="there is none"):
        answers.top(opened(store), other, by="live", level="line", most=50)


def test_what_is_unknown_is_not_zero(store: Folder) -> None:
    """Resident bytes are unknown on day 4: that day is left out of means, and PSS has no answer."""
    first = Selection(host="h0", until="2026-11-03")
    known = answers.top(opened(store), first, by="resident", level="line", most=50)
    found = answers.top(opened(store), Selection(host="h0"), by="resident", level="line", most=50)
    assert found.rows == known.rows
    assert found.recordings == 3
    with pytest.raises(UsageError, match="pss is unknown"):
        answers.top(opened(store), Selection(), by="pss", level="line", most=5)


def test_allocated_is_a_rate(store: Folder) -> None:
    """Bytes a second over all recordings of a host: long ones count more."""
    chosen = Selection(host="h0")
    found = answers.top(opened(store), chosen, by="allocated", level="function", most=50)
    steady = next(each for each in found.rows if each.code.function == "steady")
    sizes = [100_000 + 1_000 * day for day in range(1, 5)]
    assert steady.mean_bytes == pytest.approx(10 * sum(sizes) / (10 + 20 + 30 + 40))


def test_trend_by_day(store: Folder) -> None:
    """Means of the hosts of each day; the first row is all lines."""
    found = answers.trend(
        opened(store), Selection(service="web"), by="live", level="function", most=3, text="new"
    )
    assert found.days == ("2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04")
    assert found.hosts == (6, 6, 6, 6)
    whole, row = found.rows
    assert row.mean_bytes == pytest.approx((0, 0, 500_000, 500_000))
    day = [each for each in fleet() if each.run["day"] == "2026-11-02"]
    sizes = [each.run["live_bytes"] for each in day if each.run["service"] == "web"]
    assert whole.mean_bytes[1] == pytest.approx(sum(sizes) / len(sizes))
    with pytest.raises(TargetError, match="'nothing' in its name"):
        answers.trend(opened(store), Selection(), by="live", level="line", most=3, text="nothing")


@pytest.mark.parametrize("engine", ["duckdb", "polars", "chdb"])
def test_engines_agree(store: Folder, engine: str) -> None:
    """The same expressions give the same answers, those of Python: growth, differences, the largest lines."""
    lake = opened(store, engine)
    sides = Selection(version="v1"), Selection(version="v2")
    found = answers.regress(
        lake, *sides, by="live", level="function", rate=0.05, over=0.01, least_bytes=4096
    )
    assert {each.code.function for each in found.rows} == {"grown", "new"}
    grown = next(each for each in found.rows if each.code.function == "grown")
    assert found.test == "paired"
    assert found.hosts == HOSTS
    assert grown.before_bytes == pytest.approx(100_000 * 4.5 + 1_500)
    assert grown.after_bytes == pytest.approx(2 * (100_000 * 4.5 + 3_500))
    assert grown.low is not None
    assert grown.growth is not None
    assert grown.high is not None
    assert grown.low <= grown.growth <= grown.high
    assert grown.growth == pytest.approx(1.0, abs=0.05)
    new = next(each for each in found.rows if each.code.function == "new")
    assert (new.before_bytes, new.growth) == (0.0, None)
    diff = answers.diff(lake, *sides, by="live", level="function", most=3)
    assert [each.code.function for each in diff.rows][:2] == ["new", "grown"]
    assert diff.after.mean_bytes - diff.before.mean_bytes > 900_000
    labelled = Selection(labels=(("region", "eu"),))
    trend = answers.trend(lake, labelled, by="live", level="line", most=2, text=None)
    assert len(trend.rows) == 3
    assert trend.hosts == (4, 4, 4, 4)


def test_a_server_is_sent_the_rows(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend of ibis that is given rows instead of names of files gives the same answers."""
    ibis = pytest.importorskip("ibis")
    server = ibis.duckdb.connect()

    def create_table(name: str, rows: Any, *, temp: bool) -> Any:
        assert temp
        file = tmp_path / name
        assert not file.exists(), "is sent once"
        pq.write_table(rows, file)
        return server.read_parquet(str(file), table_name=name)

    backend = SimpleNamespace(create_table=create_table, to_pyarrow=server.to_pyarrow)
    monkeypatch.setattr(ibis, "connect", lambda _: backend)
    whole, sent = (
        answers.top(opened(store, engine), Selection(), by="live", level="line", most=9)
        for engine in ("duckdb", "clickhouse://host")
    )
    assert whole == sent
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["spark", "chdb"])
def test_engines_that_read_no_bucket(engine: str) -> None:
    """One line says so, before a session starts."""
    bucket = cast("Storage", SimpleNamespace(name="s3://b/lake", files=object()))
    with pytest.raises(UnsupportedError, match="does not read s3://b/lake; take duckdb"):
        open_engine(engine, bucket)


def contents(store: Folder, table: str) -> list[dict[str, Any]]:
    """Return all rows of a table, in an order that does not depend on files."""
    state = read_state(store)
    rows = [row for each in state.of_table(table) for row in read_file(store, each).to_pylist()]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def sums(store: Folder) -> dict[tuple[Any, ...], int]:
    """Return the live bytes by host, day and line from the sums of the lake."""
    found: dict[tuple[Any, ...], int] = {}
    for row in contents(store, "rollup"):
        key = row["host"], row["day"], row["line_id"]
        found[key] = found.get(key, 0) + row["live_bytes"]
    return found


def test_twice_is_once(tmp_path: Path) -> None:
    """A recording that is in the lake is not added again: in a later call, or twice in one."""
    store, recordings = Folder(str(tmp_path / "lake")), fleet()
    assert len(Writer(store).add([*recordings, *recordings[:3]])) == len(recordings)
    before = sums(store)
    assert Writer(store).add(recordings) == set()
    assert sums(store) == before
    assert len(contents(store, "runs")) == len(recordings)


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test runs after it."""


def test_a_writer_that_is_killed_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each write of files: the lake has all of the addition or nothing, and the next addition completes it."""
    recordings = fleet()[:6:2]
    steps = [0]
    limit = [0]
    part, link = Folder._part, os.link

    def count() -> None:
        steps[0] += 1
        if steps[0] == limit[0]:
            raise Killed

    def write_part(self: Folder, path: str, data: bytes) -> Any:
        count()
        found = part(self, path, data)
        count()
        return found

    def linked(*words: Any, **options: Any) -> None:
        count()
        link(*words, **options)
        count()

    monkeypatch.setattr(Folder, "_part", write_part)
    monkeypatch.setattr(os, "link", linked)

    def add_twice(store: Folder) -> None:
        Writer(store).add(recordings[:1])
        Writer(store).add(recordings)

    whole = Folder(str(tmp_path / "whole"))
    add_twice(whole)
    all_steps = steps[0]
    assert all_steps > 15
    for step in range(1, all_steps + 1):
        store = Folder(str(tmp_path / f"at-{step}"))
        steps[0], limit[0] = 0, step
        with pytest.raises(Killed):
            add_twice(store)
        limit[0] = 0
        if (tmp_path / f"at-{step}/lake.json").exists():
            assert len(contents(store, "runs")) in {0, 1, 3}
            lines = {row["run"] for row in contents(store, "lines")}
            assert lines == {row["run"] for row in contents(store, "runs")}
        Writer(store).add(recordings)
        assert sums(store) == sums(whole)
        assert contents(store, "lines") == contents(whole, "lines")


def test_a_commit_of_another_writer_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second writer of the same recording reads the commit of the first, and adds the others alone."""
    store, recordings = Folder(str(tmp_path / "lake")), fleet()
    other = Writer(store)
    create = Folder.create
    raced: list[str] = []

    def create_second(self: Folder, path: str, data: bytes) -> bool:
        if path.startswith("log/") and not raced:
            raced.append(path)
            assert other.add(recordings[:3]) == {each.run["run"] for each in recordings[:3]}
        return create(self, path, data)

    monkeypatch.setattr(Folder, "create", create_second)
    added = Writer(store).add(recordings[:5])
    assert raced
    assert added == {each.run["run"] for each in recordings[3:5]}
    assert len(contents(store, "runs")) == 5
    files = {path for path, _ in store.paths("") if path.endswith(".parquet")}
    assert files == set(read_state(store).files)  # those of the first attempt are gone


def test_an_answer_that_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has written a commit and says that it is there: the commit is the writer's own, and its files stay."""
    store, lost = Folder(str(tmp_path / "lake")), list[str]()
    create = Folder.create

    def create_silently(self: Folder, path: str, data: bytes) -> bool:
        assert create(self, path, data)
        lost.append(path)
        return not path.startswith("log/")

    monkeypatch.setattr(Folder, "create", create_silently)
    for number in range(3):
        assert len(Writer(store).add([recording(f"run-{number}", {"f": 1000})])) == 1
    assert maintain.compact(store, grace_s=0).deleted > 0
    assert len(lost) > 5
    files = set(read_state(store).files)
    assert files == {path for path, _ in store.paths("") if path.endswith(".parquet")}
    assert [row["run"] for row in contents(store, "runs")] == [f"run-{each}" for each in range(3)]


WRITER = """
import sys
sys.path.insert(0, {support!r})
import pyarrow.parquet as pq

from lake_rows import recording
from mematlas.lake.storage import Folder
from mematlas.lake.write import Writer, merge_small
store = Folder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    writer = Writer(store)
    writer.add([recording(f"run-{{number}}", {{"f": 1000 + number}}, host=f"h{{number % 3}}")])
    merge_small(store, writer.state())
"""


def test_writers_at_once(tmp_path: Path) -> None:
    """Three processes add overlapping recordings while files are merged: each is there once."""
    support = next(each for each in sys.path if each.endswith("tests/support"))
    script = WRITER.format(support=support)
    folder = str(tmp_path / "lake")
    ranges = [(0, 12), (6, 18), (12, 24)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder, str(first), str(last)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first, last in ranges
    ]
    for each in processes:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    for each in processes:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors
    store = Folder(folder)
    assert sorted(row["run"] for row in contents(store, "runs")) == sorted(
        f"run-{number}" for number in range(24)
    )
    assert sum(sums(store).values()) == sum(1000 + number for number in range(24))
    assert max(each.tier for each in read_state(store).files.values()) >= 1


def test_files_stay_few(tmp_path: Path) -> None:
    """One recording at a time: files are merged, commits with the whole state are read, and no byte is lost."""
    store = Folder(str(tmp_path / "lake"))
    count = 70  # more than the commits between two with the whole state
    for number in range(count):
        writer = Writer(store)
        writer.add([recording(f"run-{number}", {"f": 1000 + number}, host=f"h{number % 3}")])
        merge_small(store, writer.state())
    state = read_state(store)
    assert state.number > log.WHOLE
    for table in ("runs", "lines", "rollup", "names"):
        assert len(state.of_table(table)) < 2 * write.MERGED, table
    assert sum(sums(store).values()) == sum(1000 + number for number in range(count))
    before = read_state(store)
    done = maintain.compact(store, grace_s=0)
    assert done.deleted > 0
    assert done.files_after == 4
    assert {path for path, _ in store.paths("") if path.endswith(".parquet")} == set(
        read_state(store).files
    )
    assert read_state(store, before).files == read_state(store).files
    assert len(contents(store, "rollup")) == 3
    assert sum(sums(store).values()) == sum(1000 + number for number in range(count))


def test_large_files_are_not_merged_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging holds the rows of all files: they are as many as fit, the smallest first."""
    store = Folder(str(tmp_path / "lake"))
    for number in range(write.MERGED):
        Writer(store).add([recording(f"run-{number}", {"f": 1000})])
    before = read_state(store)
    sizes = sorted(each.bytes for each in before.of_table("lines"))
    monkeypatch.setattr(write, "FULL", sum(sizes) - 1)
    assert len(merge_small(store, before).of_table("lines")) == write.MERGED
    monkeypatch.setattr(write, "FULL", sum(sizes))
    monkeypatch.setattr(write, "FULL_ROWS", write.MERGED - 1)
    assert len(merge_small(store, before).of_table("lines")) == write.MERGED
    monkeypatch.setattr(write, "FULL_ROWS", write.MERGED)
    assert len(merge_small(store, read_state(store)).of_table("lines")) == 1


def test_compact_keeps_what_readers_and_writers_need(tmp_path: Path) -> None:
    """Replaced files stay for the grace time, files of a writer that has not committed for a day."""
    store = Folder(str(tmp_path / "lake"))
    for number in range(3):
        Writer(store).add([recording(f"run-{number}", {"f": 1000})])
    old = read_state(store)
    young, orphan = "lines/day=2026-11-01/young.parquet", "lines/day=2026-11-01/orphan.parquet"
    store.write(young, b"of a writer")
    store.write(orphan, b"of a dead writer")
    yesterday = time.time() - write.ORPHAN_S - 60
    os.utime(tmp_path / "lake" / orphan, (yesterday, yesterday))
    done = maintain.compact(store, grace_s=3600)
    assert done.deleted == 1
    assert store.read(young) == b"of a writer"
    assert all(store.read(path) for path in old.files)
    assert maintain.compact(store, grace_s=0).deleted == len(
        old.files.keys() - read_state(store).files.keys()
    )


def test_old_days_expire(store: Folder, tmp_path: Path) -> None:
    """Single recordings expire first: top still answers, labels do not. Then whole days."""
    copy = Folder(str(tmp_path / "lake"))
    Writer(copy).add(fleet())
    before = answers.top(opened(copy), Selection(), by="live", level="line", most=50)
    done = maintain.expire(copy, keep_days=None, keep_lines_days=1, today="2026-11-30")
    assert done.expired_days == ()
    assert answers.top(opened(copy), Selection(), by="live", level="line", most=50) == before
    chosen = Selection(labels=(("region", "eu"),))
    with pytest.raises(UsageError, match="have expired"):
        answers.top(opened(copy), chosen, by="live", level="line", most=5)
    done = maintain.expire(copy, keep_days=28, keep_lines_days=None, today="2026-11-30")
    assert done.expired_days == ("2026-11-01",)
    summary = maintain.summarise(copy)
    assert sorted({each.day for each in summary.partitions}) == [
        f"2026-11-0{day}" for day in (2, 3, 4)
    ]
    assert not any(each.with_lines for each in summary.partitions)
    assert summary.recordings == 3 * HOSTS


def test_damage_is_said(tmp_path: Path) -> None:
    """A lost commit or file, another schema, a folder with other files: one line each, no wrong figure."""
    store = Folder(str(tmp_path / "lake"))
    with pytest.raises(TargetError, match="is no lake; make one with"):
        read_state(store)
    for number in range(3):
        Writer(store).add([recording(f"run-{number}", {"f": 1000})])
    second = tmp_path / "lake/log/000000000002.json"
    text = second.read_text()
    second.write_text(text[:-10])
    with pytest.raises(MematlasError, match=r"000000000002\.json is damaged"):
        read_state(store)
    second.unlink()
    with pytest.raises(MematlasError, match=r"000000000002\.json is missing; the log is damaged"):
        read_state(store)
    second.write_text(text)
    lost = read_state(store).of_table("rollup")[0]
    lake = opened(store)
    store.remove(lost.path)
    with pytest.raises(MematlasError, match="changed while it was read; try again"):
        answers.top(lake, Selection(), by="live", level="line", most=5)
    (tmp_path / "lake/lake.json").write_text('{"schema": "mematlas/lake/2"}')
    with pytest.raises(UnsupportedError, match="has the schema mematlas/lake/2"):
        read_state(store)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").touch()
    with pytest.raises(UsageError, match="is not empty and no lake"):
        Writer(Folder(str(tmp_path / "other")))
