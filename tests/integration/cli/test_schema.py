"""`mematlas schema`: the published schemas, and that real output of every command follows them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from commands import run_mematlas
from json_schemas import schema as closed
from mematlas.present.json_schema import schema_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import time
kept = []
for number in range(40):
    kept.append([bytes(1000) for _ in range(500)])
    time.sleep(0.02)
"""
WAITING = "data = bytearray(8 << 20); print(hex(id(data)), flush=True); input()"
RECORDED = {
    "report": "report a.atlas --json",
    "tree": "report a.atlas --tree --json",
    "packages": "report a.atlas --by-package --json",
    "window": "report a.atlas --since 25% --json",
    "leaks": "leaks a.atlas --json",
    "diff": "diff a.atlas a.atlas --json",
    "export": "export a.atlas --to perfetto -o a.pftrace --json",
    "doctor": "doctor a.atlas --json",
}
OBSERVED = (
    ("show", "show {pid} --json"),
    ("pages", "pages {pid} --json"),
    ("where", "where {pid} {address} --json"),
    ("ps", "ps --json"),
    ("top", "top --once --json"),
    ("wss", "wss {pid} --duration 100ms --json"),
    ("cache", "cache a.py --json"),
    ("probe", "probe --json"),
    ("doctor", "doctor --json"),
    ("doctor", "doctor {pid} --json"),
    ("faults", "faults {pid} --duration 100ms --json"),
    ("faults", "faults {pid} --where --duration 100ms --json"),
    ("faults", "faults --json -- true"),
    ("faults", "faults --demo --json"),
    ("exec", "exec --dry-run --json --lock-all -- true"),
    ("migrate", "migrate {pid} --to 0 --dry-run --json"),
    *(
        ("system", f"system {topic} --json")
        for topic in ("memory", "thp", "fragmentation", "numa", "swap", "ksm", "cgroup", "slab")
    ),
    ("system", "system pressure --json"),
    ("tune-show", "tune show --json"),
    ("tune-plan", "tune plan vm.swappiness=10 --json"),
    ("tune-plan", "tune plan --profile list --json"),
    ("tune-apply", "tune apply vm.swappiness=10 --json"),
)
CHANGED = (  # in this order, in a tree of their own
    ("tune-apply", "tune apply --root tree vm.swappiness=10 --yes --json"),
    ("tune-verify", "tune verify --root tree --json"),
    ("tune-undo", "tune undo --root tree --json"),
    ("tune-undo", "tune undo --root tree --yes --json"),
    ("tune-history", "tune history --root tree --json"),
)
MEASURED = (
    ("bench", "bench tlb --duration 100ms --json -o one.json"),
    ("bench-compare", "bench compare one.json one.json --json"),
)


def check(folder: Path, name: str, text: str) -> None:
    """Run a command, and hold what it prints against its closed schema."""
    done = run_mematlas(folder, *text.split())
    assert done.stdout.startswith("{"), done.stderr
    jsonschema.Draft202012Validator(closed(name)).validate(json.loads(done.stdout))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recording."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "a.py").write_text(PROGRAM)
    done = run_mematlas(folder, "run", "-o", "a.atlas", "--", sys.executable, "a.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def target() -> Iterator[dict[str, str]]:
    """Return the PID of a process that waits, and an address in it."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield {"pid": str(process.pid), "address": process.stdout.readline().strip()}
        process.kill()


@pytest.mark.parametrize("name", RECORDED)
def test_real_output_follows_its_schema(folder: Path, name: str) -> None:
    """The schema that is printed describes what the command prints, and refuses what it does not."""
    schema = json.loads(run_mematlas(folder, "schema", name).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(run_mematlas(folder, *RECORDED[name].split()).stdout)
    jsonschema.validate(found, closed(name))
    more = {**found, "data": {**found["data"], "a_field_of_later": 1}}
    jsonschema.validate(more, schema)  # fields may be added
    for wrong in ({**found, "schema": "mematlas/other/1"}, {"schema": found["schema"], "data": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(("name", "text"), OBSERVED, ids=[text for _, text in OBSERVED])
def test_what_is_observed_follows_its_schema(
    folder: Path, target: dict[str, str], name: str, text: str
) -> None:
    """Commands that read the kernel print what their schema says."""
    check(folder, name, text.format(**target))


def test_changes_follow_their_schemas(folder: Path) -> None:
    """A change that is written, verified and undone, in a captured tree."""
    knob = folder / "tree/proc/sys/vm/swappiness"
    knob.parent.mkdir(parents=True)
    knob.write_text("60\n")
    boot = folder / "tree/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    for name, text in CHANGED:
        check(folder, name, text)
    assert knob.read_text().strip() == "60"


def test_benchmarks_follow_their_schemas(folder: Path) -> None:
    """A short benchmark, and its comparison with itself."""
    for name, text in MEASURED:
        check(folder, name, text)


def test_all_schemas_are_listed(folder: Path) -> None:
    """Without a name the schemas are listed; an unknown name is answered with those that exist."""
    tested = {name for name, _ in (*OBSERVED, *CHANGED, *MEASURED)} | set(RECORDED)
    rooms = ("heap", "lake", "oom")  # tests/integration/heap, lake and agent
    others = {name for name in schema_names() if name.startswith(rooms)}
    assert set(schema_names()) - others == tested
    listed = [line.split()[0] for line in run_mematlas(folder, "schema").stdout.splitlines()]
    assert listed == schema_names()
    done = run_mematlas(folder, "schema", "nothing")
    assert done.returncode == 2
    assert "'nothing' has no schema; choose of bench, bench-compare" in done.stderr
    tune = run_mematlas(folder, "schema", "tune").stderr
    assert "choose of tune-apply, tune-history, tune-plan" in tune
    assert "wss" not in tune
