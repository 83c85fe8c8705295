"""A lake in a bucket: the same rows as in a folder, and one winner of two writers. The store is moto's."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ibis", reason="ibis-framework is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto", reason="moto[server] is not installed")

from lake_rows import recording
from mematlas.lake import answers, maintain
from mematlas.lake.engines import open_engine
from mematlas.lake.log import read_state
from mematlas.lake.model import Selection
from mematlas.lake.query import Lake
from mematlas.lake.storage import open_storage
from mematlas.lake.write import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore")  # of the server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a bucket of a server in this process."""
    server = import_module("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    files = import_module("s3fs").S3FileSystem(skip_instance_cache=True)
    files.mkdir("profiles")
    yield "s3://profiles/lake"
    server.stop()


def test_a_lake_in_a_bucket(bucket: str) -> None:
    """Add, add again, merge, ask, expire."""
    store = open_storage(bucket)
    found = [
        recording(f"run-{number}", {"f": 1000 + number}, host=f"h{number}") for number in range(4)
    ]
    for each in found:
        assert len(Writer(store).add([each])) == 1
    assert Writer(store).add(found) == set()
    assert not store.create("log/000000000004.json", b"of another writer")
    lake = Lake(store, read_state(store), open_engine("duckdb", store))
    top = answers.top(lake, Selection(), by="live", level="line", most=5)
    assert top.fleet_bytes == pytest.approx(4006)
    assert top.rows[0].hosts == 4
    done = maintain.compact(store, grace_s=0)
    assert done.files_after < done.files_before
    assert {path for path, _ in store.paths("") if path.endswith(".parquet")} == set(
        read_state(store).files
    )
    lake = Lake(store, read_state(store), open_engine("duckdb", store))
    assert answers.top(lake, Selection(), by="live", level="line", most=5) == top
    assert maintain.expire(store, keep_days=1, keep_lines_days=None).rows_expired > 0
