"""Names of lines are the same on all hosts."""

from __future__ import annotations

import pytest

from mematlas.lake.model import Selection
from mematlas.lake.rows import folder_pattern, name_row, program_name


def test_a_line_of_a_library_has_one_number_everywhere() -> None:
    """Folders of site-packages and of the standard library are not part of a name."""
    paths = (
        "/usr/lib/python3/dist-packages/flask/app.py",
        "/home/x/venv/lib/python3.12/site-packages/flask/app.py",
        "/opt/python/lib/python3.13/site-packages/flask/app.py",
    )
    assert len({name_row("run", each, 9)["line_id"] for each in paths}) == 1
    assert name_row("run", paths[0], 9)["file"] == "flask/app.py"


def test_folders_of_releases_are_cut_off() -> None:
    """One star is one name of a folder."""
    folders = folder_pattern(["/srv/releases/*", "/opt/app/"])
    for path in ("/srv/releases/v1.4/web/a.py", "/srv/releases/v1.5/web/a.py", "/opt/app/web/a.py"):
        assert name_row("f", path, 1, folders)["file"] == "web/a.py"
    for path in ("/srv/releases/a.py", "/data/srv/releases/v1/a.py", "/opt/apple/a.py"):
        assert name_row("f", path, 1, folders)["file"] == path


def test_lines_functions_and_files_have_numbers() -> None:
    """Numbers are equal where names are equal, and positive: engines have no unsigned ones."""
    one, two = name_row("f", "/a.py", 1), name_row("f", "/a.py", 2)
    other = name_row("g", "/a.py", 2)
    assert one["line_id"] != two["line_id"]
    assert one["function_id"] == two["function_id"] != other["function_id"]
    assert one["file_id"] == other["file_id"]
    assert all(0 <= row[key] < 1 << 63 for row in (one, two, other) for key in row if "_id" in key)


def test_an_address_is_no_name() -> None:
    """Code without symbols lies elsewhere in each run: it is its module."""
    rows = [name_row(each, "/usr/lib/libx.so.1", None) for each in ("0x7f1200", "0x7f99aa")]
    assert rows[0] == rows[1]
    assert rows[0]["file"] == "libx.so.1"
    assert name_row(None, None, None)["function"] == "unknown stack"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/redis-server", "*:6379"], "redis-server"),
        (["/usr/bin/python3.11", "/srv/app/web.py", "--port", "80"], "web"),
        (["python3", "-m", "flask", "run"], "flask"),
        (["python3", "-c", "pass"], "python3"),
        (["python3"], "python3"),
        (["node", "server.js"], "server"),
    ],
)
def test_a_service_is_named_after_its_program(command: list[str], name: str) -> None:
    """An interpreter is no service."""
    assert program_name(command) == name


def test_words_of_a_selection() -> None:
    """A selection is shown as it is written."""
    assert Selection().words() == "all recordings"
    assert Selection(version="v1", since="2026-11-01").words() == "version=v1,day=2026-11-01.."
    assert Selection(since="2026-11-01", until="2026-11-01").words() == "day=2026-11-01"
    assert Selection(labels=(("region", "eu"),)).words() == "region=eu"
