"""Engines that answer queries: DuckDB in this process, or another one that ibis knows.

A query is written once, as an ibis expression over tables of Parquet files.
"""

from __future__ import annotations

import hashlib
import io
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.lake import schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from mematlas.lake.storage import Storage

ENGINES = ("duckdb", "polars", "spark", "chdb")
_NO_BUCKETS = ("spark", "chdb")  # would need an address and credentials of their own
INSTALL = "run `pip install 'mematlas[lake]'`"


class Engine(Protocol):
    """What a query asks of an engine."""

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table; `files` is not empty."""

    def fetch(self, expression: Any) -> pa.Table:
        """Compute an expression and return its rows."""


def open_engine(name: str, store: Storage) -> Engine:
    """Return an engine by name: one of ENGINES, spark:MASTER, or a URL of ibis.connect().

    UsageError for another name; UnsupportedError if its package is not installed.
    """
    kind = name.partition(":")[0]
    if kind in _NO_BUCKETS and getattr(store, "files", None) is not None:
        raise UnsupportedError(f"the engine {kind} does not read {store.name}; take duckdb")
    try:
        if kind == "chdb":
            return ClickHouse()
        if kind == "spark":
            return Spark(name)
        if kind == "duckdb":
            return DuckDB(store)
        if kind == "polars":
            return Polars()
        if "://" in name:
            return Ibis(name, store)
    except (ModuleNotFoundError, AttributeError) as error:
        raise _lacks(kind, error) from None
    raise UsageError(f"unknown engine {name!r}; choose {', '.join(ENGINES)}, or a URL of ibis")


def _lacks(kind: str, error: Exception) -> MematlasError:
    package = {"polars": "ibis-framework[polars]", "spark": "ibis-framework[pyspark]"}
    lacked = getattr(error, "name", "") or ""
    if lacked == "ibis" or kind == "duckdb":
        return UnsupportedError(f"a lake is read with ibis: {INSTALL}")
    name = package.get(kind, kind)
    return UnsupportedError(f"the engine {kind} needs {name}: run `pip install '{name}'`")


class _Backend:
    """A backend of ibis."""

    _connection: Any

    def fetch(self, expression: Any) -> pa.Table:
        """Compute an expression and return its rows."""
        return self._connection.to_pyarrow(expression)


class DuckDB(_Backend):
    """DuckDB in this process. Its views keep partition columns out: the files have those columns."""

    def __init__(self, store: Storage) -> None:
        """Open a database in memory, which reads the store of the lake."""
        self._connection = import_module("ibis").duckdb.connect()
        files = getattr(store, "files", None)
        if files is not None:  # a bucket: no extension of DuckDB is fetched for it
            self._connection.con.register_filesystem(files)

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table."""
        view = _view(name, files)
        listed = ", ".join("'" + each.replace("'", "''") + "'" for each in files)
        self._connection.raw_sql(
            f"CREATE OR REPLACE TEMP VIEW {view} AS"  # noqa: S608 - names of our own files, quoted
            f" SELECT * FROM read_parquet([{listed}], hive_partitioning = false)"
        )
        return self._connection.table(view)


def _view(name: str, files: Sequence[str]) -> str:
    """Return the name of a view: one for each list of files, since expressions are computed later."""
    digest = hashlib.blake2b("\0".join(files).encode(), digest_size=8).hexdigest()
    return f"{name}_{digest}"


class Polars(_Backend):
    """Polars in this process."""

    def __init__(self) -> None:
        """Open a connection without tables."""
        self._scan = import_module("polars").scan_parquet
        self._connection = import_module("ibis").polars.connect()

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table."""
        view = _view(name, files)
        frame = self._scan(list(files), hive_partitioning=False)
        return self._connection.create_table(view, frame, overwrite=True)


class Ibis(_Backend):
    """Any other backend of ibis, by a URL of ibis.connect(): it is sent the rows of the files."""

    def __init__(self, url: str, store: Storage) -> None:
        """Connect."""
        self._connection = import_module("ibis").connect(url)
        self._store = store
        self._tables: dict[str, Any] = {}  # by view: a server has no files of ours

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table, which the server forgets with the connection."""
        view = _view(name, files)
        if view not in self._tables:
            rows = self._read(name, files)
            self._tables[view] = self._connection.create_table(view, rows, temp=True)
        return self._tables[view]

    def _read(self, name: str, files: Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        root = self._store.url("")
        found = []
        for each in files:
            content = io.BytesIO(self._store.read(each.removeprefix(root).lstrip("/")))
            found.append(pq.read_table(content, columns=list(schema.TABLES[name])))
        return pa.concat_tables(found)


class Spark(_Backend):
    """Spark: `spark` for this machine, spark://HOST:PORT, or spark:MASTER for any other master."""

    def __init__(self, name: str) -> None:
        """Start a session, or use the one of this process."""
        ibis, sql = import_module("ibis"), import_module("pyspark.sql")
        rest = name.partition(":")[2]
        master = name if urlsplit(name).netloc else rest or "local[*]"
        builder = sql.SparkSession.builder.master(master).appName("mematlas lake")
        for key, value in _SPARK.items():
            builder = builder.config(key, value)
        self._session = builder.getOrCreate()
        self._session.sparkContext.setLogLevel("ERROR")
        self._connection = ibis.pyspark.connect(self._session)

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table."""
        view = _view(name, files)
        found = self._session.read.parquet(*files).select(*schema.TABLES[name])
        found.createOrReplaceTempView(view)
        return self._connection.table(view)


_SPARK = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


class ClickHouse:
    """ClickHouse in this process, by chdb: no backend of ibis, so it is given the SQL that ibis compiles."""

    def __init__(self) -> None:
        """Open a session without data."""
        self._session = import_module("chdb.session").Session()
        self._ibis = import_module("ibis")

    def table(self, name: str, files: Sequence[str]) -> Any:
        """Return Parquet files as an ibis table.

        Files are named one by one: of a pattern, ClickHouse leaves out files that do not exist without a word.
        """
        view = _view(name, files)
        types = {int: "Int64", float: "Float64", str: "String", bool: "Bool"}
        columns = ", ".join(
            f"`{column}` Nullable({types[kind]})" for column, kind in schema.TABLES[name].items()
        )
        each_file = " UNION ALL ".join(
            f"SELECT * FROM file('{each}', 'Parquet', '{columns}')"  # noqa: S608
            for each in files
        )
        self._session.query(
            f"CREATE OR REPLACE VIEW {view} AS {each_file} SETTINGS use_hive_partitioning = 0"
        )
        kinds = {int: "int64", float: "float64", str: "string", bool: "boolean"}
        return self._ibis.table(
            {column: kinds[kind] for column, kind in schema.TABLES[name].items()}, name=view
        )

    def fetch(self, expression: Any) -> pa.Table:
        """Compute an expression and return its rows."""
        import pyarrow as pa

        sql = self._ibis.to_sql(expression, dialect="clickhouse")
        answer = self._session.query(
            f"{sql} SETTINGS join_use_nulls = 1, use_hive_partitioning = 0,"
            " output_format_arrow_string_as_string = 1",
            "Arrow",
        )
        return pa.ipc.open_file(pa.py_buffer(answer.bytes())).read_all()
