"""`mematlas schema`: the published schemas, and that real output follows them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "report": ("report", "a.atlas", "--json"),
    "tree": ("report", "a.atlas", "--tree", "--json"),
    "packages": ("report", "a.atlas", "--by-package", "--json"),
    "window": ("report", "a.atlas", "--since", "25%", "--json"),
    "leaks": ("leaks", "a.atlas", "--json"),
    "diff": ("diff", "a.atlas", "a.atlas", "--json"),
    "export": ("export", "a.atlas", "--to", "collapsed", "-o", "a.txt", "--json"),
    "doctor": ("doctor", "a.atlas", "--json"),
}
PROGRAM = """
import time
kept = []
for number in range(40):
    kept.append([bytes(1000) for _ in range(500)])
    time.sleep(0.02)
"""


def mematlas(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        [sys.executable, "-m", "mematlas", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recording."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "a.py").write_text(PROGRAM)
    done = mematlas(folder, "run", "-o", "a.atlas", "--", sys.executable, "a.py")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_real_output_follows_its_schema(folder: Path, name: str) -> None:
    """The schema that is printed describes what the command prints, and refuses what it does not."""
    schema = json.loads(mematlas(folder, "schema", name).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    done = mematlas(folder, *COMMANDS[name])
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "schema": "mematlas/other/1"}, schema)


def test_all_schemas_are_listed(folder: Path) -> None:
    """Without a name the schemas are listed; an unknown name is answered with those that exist."""
    listed = [line.split()[0] for line in mematlas(folder, "schema").stdout.splitlines()]
    assert listed == sorted(COMMANDS)
    done = mematlas(folder, "schema", "ps")
    assert done.returncode == 2
    assert "'ps' has no schema; choose of diff, doctor" in done.stderr
