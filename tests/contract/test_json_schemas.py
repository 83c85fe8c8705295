"""The committed JSON Schemas are what the types say, and every command with --json has one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from mematlas.present.json_schema import schema, schema_names

ROOT = Path(__file__).parents[2]


def test_the_files_are_up_to_date() -> None:
    """A change of a dataclass that is printed as JSON is seen as a change of its schema."""
    done = subprocess.run(
        [sys.executable, ROOT / "share/json_schemas.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_with_json_has_a_schema() -> None:
    """Each name in the code, `mematlas/NAME/1` or add_json(parser, "NAME"), has a file."""
    named = set()
    for path in (ROOT / "src/mematlas/cli").glob("*.py"):
        text = path.read_text("utf-8")
        named |= set(re.findall(r"mematlas/([a-z-]+)/1", text))
        named |= set(re.findall(r'add_json\(parser, "([a-z-]+)"', text))
        named |= set(re.findall(r'json_writer\.render\("([a-z-]+)"', text))
    assert named <= set(schema_names()), named - set(schema_names())


def test_schemas_are_open() -> None:
    """Fields may be added: no published schema refuses one that it does not know."""
    for name in schema_names():
        assert '"additionalProperties": False' not in str(schema(name)).replace("'", '"'), name
