"""Write a lake of a simulated fleet, from recordings of real programs.

    benchmarks/lake/fleet.py LAKE [--hosts 2000] [--days 30] [--recordings 10] [--lines 170]

Each service is a program of this machine, recorded here. Its largest lines are what each host records, several times
a day, with noise: from host to host, from line to line on a host, from recording to recording, and in the load of a host
between the two versions. v1.5 runs on half of the hosts from the middle of the time, on all from two thirds on. Some of
its lines are larger: LAKE.planted.json has their numbers and by how much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mematlas.lake.add import read_rows
from mematlas.lake.schema import TABLES, arrow_schema
from mematlas.lake.storage import Folder
from mematlas.lake.write import Writer, merge_small, to_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.lake.rows import RunRows

PROGRAMS = {
    "compileall": [sys.executable, "-m", "compileall", "-q", "-f", "json", "email"],
    "pydoc": [sys.executable, "-m", "pydoc", "http.server"],
    "doctest": [sys.executable, "-c", "import doctest, difflib; doctest.testmod(difflib)"],
    "decimals": [sys.executable, "-c", "import statistics, fractions, decimal, random; [decimal.Decimal(1) / n for n in range(1, 90000)]"],
    "numpy": [sys.executable, "-c", "import numpy as n; [n.linalg.svd(n.random.rand(90, 90)) for _ in range(20)]"],
    "rich": [sys.executable, "-m", "rich.markdown", "README.md"],
    "sqlite": [sys.executable, "-c", "import sqlite3; d = sqlite3.connect(':memory:'); d.execute('create table t(a, b)'); d.executemany('insert into t values(?, ?)', ((n, str(n)) for n in range(100000)))"],
}  # fmt: skip
METRICS = ("live_bytes", "resident_bytes", "peak_bytes", "allocated_bytes")
GROWTH = (0.05, 0.10, 0.20)
PLANTED = 4  # lines of each service and growth
FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)


def record(folder: Path, service: str) -> RunRows:
    """Return the rows of a recording of a real program, which is made now."""
    file = folder / f"{service}.atlas"
    words = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", str(file), "--"]
    subprocess.run(
        [*words, *PROGRAMS[service]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=600,
    )
    return read_rows(str(file), (("service", service),))


class Service:
    """One service on its hosts."""

    def __init__(
        self, name: str, rows: RunRows, hosts: NDArray[np.int64], lines: int, seed: int
    ) -> None:
        """Choose the largest lines, the hosts' own factors, and the lines that grow."""
        self.name, self.hosts = name, hosts
        ranked = sorted(rows.lines, key=lambda row: -row["peak_bytes"])[:lines]
        self.random = np.random.default_rng(seed)
        self.ids = np.array([row["line_id"] for row in ranked])
        self.names = [rows.names[row["line_id"]] for row in ranked]
        self.sizes = {
            each: np.array([max(row[each] or 0, row["peak_bytes"] or 0, 1 << 17) for row in ranked])
            for each in METRICS
        }
        self.factor = np.exp(self.random.normal(0, 0.35, (len(hosts), 1)))
        self.factor = self.factor * np.exp(self.random.normal(0, 0.15, (len(hosts), len(ranked))))
        self.load = np.exp(self.random.normal(0, 0.1, len(hosts)))
        self.growth = np.ones(len(ranked))
        chosen = self.random.choice(len(ranked), PLANTED * len(GROWTH), replace=False)
        for at, grow in enumerate(GROWTH):
            self.growth[chosen[at * PLANTED : (at + 1) * PLANTED]] = 1 + grow

    def planted(self) -> dict[str, float]:
        """Return the growth of the lines that grow, by their numbers."""
        some = np.flatnonzero(self.growth > 1)
        return {str(self.ids[at]): float(self.growth[at] - 1) for at in some}

    def day(self, day: int, days: int, recordings: int) -> dict[str, pa.Table]:
        """Return the rows of one day."""
        half, most = days // 2, days * 2 // 3
        new = (self.hosts % 2 == 0) & (day >= half) | (day >= most)
        host = np.repeat(np.arange(len(self.hosts)), recordings)
        is_new = new[host]
        count, width = len(host), len(self.ids)
        noise = np.exp(self.random.normal(0, 0.2, (count, width)))
        scale = self.factor[host] * noise * np.where(is_new, self.load[host], 1.0)[:, None]
        scale *= np.where(is_new[:, None], self.growth, 1.0)
        sizes = {name: (base * scale).astype(np.int64) for name, base in self.sizes.items()}
        text = f"{FIRST_DAY + timedelta(days=day):%Y-%m-%d}"
        start = FIRST_DAY.timestamp() + day * 86400 + self.random.integers(0, 86400, count)
        runs = [f"{self.name}-{day}-{number}" for number in range(count)]
        of_run = {
            "day": constant(text, count),
            "service": constant(self.name, count),
            "host": coded(host, [f"host-{number:05}" for number in self.hosts.tolist()]),
            "version": coded(is_new.astype(np.int64), ["v1.4", "v1.5"]),
            "build": pa.nulls(count, pa.string()),
            "run": pa.array(runs),
            "start": pa.array(start),
        }
        row = pa.array(np.repeat(np.arange(count), width))
        totals = {name: pa.array(each.sum(1)) for name, each in sizes.items()}
        cells = {name: pa.array(each.ravel()) for name, each in sizes.items()}
        ones = pa.array(np.ones(count * width, np.int64))
        lines = {
            **{name: column.take(row) for name, column in of_run.items()},
            "line_id": pa.array(np.tile(self.ids, count)),
            **cells,
            "live_count": ones,
            "allocations": ones,
        }
        facts = {"duration_s": pa.array(np.full(count, 60.0)), "command": constant("app", count)}
        facts |= {"sample_bytes": pa.array(np.full(count, 524_288))}
        facts |= {"complete": pa.array(np.ones(count, bool))}
        return {
            "runs": whole("runs", of_run | facts | totals),
            "lines": whole("lines", lines),
        }


def constant(text: str, count: int) -> pa.Array:
    """Return a column with one value."""
    return pa.repeat(pa.scalar(text, pa.string()), count)


def coded(which: NDArray[np.int64], names: list[str]) -> pa.Array:
    """Return a column of names by their indices."""
    return pa.array(names).take(pa.array(which))


def whole(table: str, columns: dict[str, Any]) -> pa.Table:
    """Return a table of the schema; what is not given is null."""
    count = len(next(iter(columns.values())))
    found = {
        field.name: columns.get(field.name, pa.nulls(count, field.type))
        for field in arrow_schema(table)
    }
    return pa.table(found).cast(arrow_schema(table)).select(list(TABLES[table]))


def make(options: argparse.Namespace) -> None:
    """Write the lake."""
    writer = Writer(Folder(options.lake))
    services = []
    with TemporaryDirectory() as folder:
        hosts = np.arange(options.hosts)
        for number, name in enumerate(PROGRAMS):
            rows = record(Path(folder), name)
            mine = hosts[hosts % len(PROGRAMS) == number]
            services.append(Service(name, rows, mine, options.lines, number))
            print(f"{name}: {len(rows.lines)} lines, {len(mine)} hosts", flush=True)
    names = {row["line_id"]: row for each in services for row in each.names}
    writer.add_tables({"names": to_table("names", list(names.values()))})
    planted = {each.name: each.planted() for each in services}
    Path(f"{options.lake}.planted.json").write_text(json.dumps(planted), "utf-8")
    began = time.monotonic()
    for day in range(options.days):
        for each in services:
            state = writer.add_tables(each.day(day, options.days, options.recordings))
        merge_small(writer.store, state)
        print(f"day {day + 1}: {time.monotonic() - began:.0f} s", flush=True)
    state = writer.state()
    for table in TABLES:
        files = state.of_table(table)
        size = sum(each.bytes for each in files) / (1 << 20)
        print(f"{table}: {sum(each.rows for each in files):,} rows, {size:,.1f} MiB")


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake")
    for name, default in (("hosts", 2000), ("days", 30), ("recordings", 10), ("lines", 170)):
        parser.add_argument(f"--{name}", type=int, default=default)
    make(parser.parse_args())


if __name__ == "__main__":
    main()
