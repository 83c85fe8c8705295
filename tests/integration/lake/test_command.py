"""`mematlas lake` as a user runs it: recordings of every format, answers in text and JSON, refusals of one line."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("ibis", reason="ibis-framework is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")

import synthetic_recording
from json_schemas import schema as closed
from lake_rows import recording
from mematlas.cli import main
from mematlas.errors import UsageError
from mematlas.lake import rows
from mematlas.lake.add import read_rows
from mematlas.lake.storage import Folder
from mematlas.lake.write import Writer

DATA = Path(__file__).parents[2] / "data"
PROGRAM = """
import sys
class Cache:
    def fill(self, count):
        self.blocks = [bytes(1000) for _ in range(count)]
def load(count):
    return [bytearray(5000) for _ in range(count)]
cache = Cache()
cache.fill(int(sys.argv[1]))
kept = load(200)
"""


pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_arrow_table:DeprecationWarning"  # ibis 12 with DuckDB 2
)


def mematlas(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, within this process: imports of engines take seconds."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(output), redirect_stderr(errors):
        code = main([*words])
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())


def answer(folder: Path, *words: str) -> Any:
    """Return the data of an answer in JSON, which follows its schema."""
    done = mematlas(folder, "lake", *words, "--json")
    assert done.returncode in {0, 1}, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, closed(f"lake-{words[0]}"))
    return document["data"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a lake of a real program in two versions, whose hosts are labels."""
    folder = tmp_path_factory.mktemp("lake")
    (folder / "app.py").write_text(PROGRAM)
    for version, count in (("v1", 2000), ("v2", 3000)):
        file = f"{version}.atlas"
        words = (sys.executable, "app.py", str(count))
        done = mematlas(
            folder, "run", "--exact", "-o", file, "--label", f"version={version}", "--", *words
        )
        assert done.returncode == 0, done.stderr
    found = answer(folder, "add", "v1.atlas", "v2.atlas", "--to", "lake", "--label", "host=a")
    assert (found["added"], found["known"], found["failed"]) == (2, 0, 0)
    return folder


def test_a_real_program(folder: Path) -> None:
    """The lines have the bytes that the program allocated, in the service named after it."""
    shown = answer(folder, "show", "lake")
    assert shown["recordings"] == 2
    assert shown["partitions"][0]["service"] == "app"
    assert shown["partitions"][0]["versions"] == ["v1", "v2"]
    top = answer(folder, "top", "lake", "--version", "v1", "--level", "line")
    row = next(each for each in top["rows"] if "Cache.fill" in each["code"]["function"])
    assert row["code"]["file"].endswith("app.py")
    assert row["fleet_bytes"] == pytest.approx(2000 * 1033, rel=0.1)
    diff = answer(folder, "diff", "lake", "--from", "v1", "--to", "version=v2")
    assert diff["rows"][0]["change_bytes"] == pytest.approx(1000 * 1033, rel=0.1)
    trend = answer(folder, "trend", "lake", "--match", "app.py")
    assert len(trend["rows"]) >= 2


def test_again_and_what_is_no_recording(folder: Path) -> None:
    """A recording is known, a missing file and another file fail; the exit code says so, and the rest is added."""
    (folder / "text.atlas").write_text("no recording\n")
    done = mematlas(folder, "lake", "add", "v1.atlas", "none.atlas", "text.atlas", "--to", "lake")
    assert done.returncode == 1
    assert "known  v1.atlas: run " in done.stdout
    assert "failed none.atlas: no such file" in done.stdout
    assert "failed text.atlas: " in done.stdout
    assert "lake: 0 recordings added, 1 in the lake before, 2 failed" in done.stdout


def test_recordings_of_all_formats(tmp_path: Path) -> None:
    """Old recordings have no ID and no host: their content names them, and the host is asked for."""
    for version in (1, 2, 3):
        shutil.copy(DATA / f"recording-v{version}.atlas", tmp_path)
    synthetic_recording.write(tmp_path / "synthetic.atlas")
    files = [each.name for each in sorted(tmp_path.glob("*.atlas"))]
    found = answer(tmp_path, "add", *files, "--to", "lake")
    assert [each["outcome"] for each in found["recordings"]] == ["failed"] * 4
    assert found["recordings"][0]["note"] == "does not say its host; add --label host=NAME"
    long = ("--label", "host=old", "--label", f"service={'x' * 300}")
    found = answer(tmp_path, "add", files[0], "--to", "lake", *long)
    assert found["recordings"][0]["note"].startswith("has a service with too long a name")
    for expected in ("added", "known"):
        found = answer(tmp_path, "add", *files, "--to", "lake", "--label", "host=old")
        assert [each["outcome"] for each in found["recordings"]] == [expected] * 4
    answer(tmp_path, "add", "synthetic.atlas", "--to", "one", "--label", "host=old")
    top = answer(tmp_path, "top", "one", "--service", "orders")
    assert top["fleet_bytes"] == 2_000_000
    assert top["recordings"] == 1


def test_figures_that_no_program_reaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over a fleet would run over."""
    synthetic_recording.write(tmp_path / "a.atlas")
    labels = (("host", "a"),)
    assert read_rows(str(tmp_path / "a.atlas"), labels).lines
    monkeypatch.setattr(rows, "_MOST", 1000)
    with pytest.raises(UsageError, match="no program reaches"):
        read_rows(str(tmp_path / "a.atlas"), labels)


def test_refusals(folder: Path) -> None:
    """What cannot be answered is one line that says what to do."""
    for words, text in (
        (("top", "nowhere"), "nowhere is no lake; make one with `mematlas lake add"),
        (("top", "lake", "--engine", "oracle"), "unknown engine 'oracle'; choose duckdb"),
        (("top", "lake", "--since", "soon"), "'soon' is no day; write it as 2026-11-03, or as 7d"),
        (("top", "lake", "--service", "x"), "lake has no recordings of service=x"),
        (("top", "lake", "--version", "x"), "no recording of version=x has live bytes"),
        (("diff", "lake", "--from", "a=1", "--to", "v2"), "'a=1' is none of service=, host="),
        (("diff", "lake", "--from", "v1", "--to", "v1"), "are the same recordings: version=v1"),
        (("regress", "lake", "--from", "v1", "--to", "v2"), "a test needs 5 hosts of each group"),
        (("expire", "lake"), "say what to keep: --keep DAYS"),
        (("add", "v1.atlas", "--to", "gs://x"), "a lake is a folder or s3://BUCKET/PREFIX"),
    ):
        done = mematlas(folder, "lake", *words)
        assert done.returncode != 0
        assert text in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_texts(folder: Path) -> None:
    """Each answer in words, within 80 columns and without a byte that a terminal would obey."""
    for words in (
        ("show",),
        ("top", "--by", "allocated"),
        ("trend",),
        ("diff", "--from", "v1", "--to", "v2"),
        ("compact",),
        ("expire", "--keep", "1000"),
    ):
        done = mematlas(folder, "lake", words[0], "lake", *words[1:])
        assert done.returncode == 0, done.stderr
        assert done.stdout.isprintable() or all(
            each.isprintable() for each in done.stdout.splitlines()
        )
    maintained = answer(folder, "compact", "lake", "--grace", "0s")
    assert maintained["files_after"] == maintained["files_before"]
    assert answer(folder, "expire", "lake", "--keep", "1000")["rows_expired"] == 0


def test_growth_fails_a_build(tmp_path: Path) -> None:
    """`regress --fail-on growth` ends with 1 where a line grew, and the answer names the line."""
    support = str(Path(__file__).parents[2] / "support")
    sys.path.insert(0, support) if support not in sys.path else None

    sizes = {f"line{number}": 200_000 + 9_000 * number for number in range(12)}
    found = [
        recording(
            f"{host}-{version}",
            {name: size + 500 * host for name, size in sizes.items()}
            | {"grown": grown + 3000 * host},
            host=f"h{host}",
            version=version,
        )
        for host in range(6)
        for version, grown in (("v1", 300_000), ("v2", 450_000))
    ]
    Writer(Folder(str(tmp_path / "lake"))).add(found)
    words = ("regress", "lake", "--from", "v1", "--to", "v2", "--fail-on", "growth")
    data = answer(tmp_path, *words)
    assert [each["code"]["function"] for each in data["rows"]] == ["grown"]
    done = mematlas(tmp_path, "lake", *words)
    assert done.returncode == 1
    assert "1 function of 13 tested grew" in done.stdout
    assert "paired t test within 6 hosts" in done.stdout
    done = mematlas(
        tmp_path, "lake", "regress", "lake", "--from", "v2", "--to", "v1", "--fail-on", "growth"
    )
    assert done.returncode == 0
    assert "no function of 13 tested grew" in done.stdout
