"""What imports cost, from synthetic stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import reports
from mematlas.recording.model import Frame
from mematlas.recording.ownership import owning_frame
from mematlas.report.analyse.imports import find_imports, module_name, module_names
from mematlas.report.analyse.table import StackTable

if TYPE_CHECKING:
    from mematlas.report.model.report import StackStats

SITE = "/venv/lib/python3.12/site-packages"
SYSTEM = (reports.PYMALLOC, *(
    Frame(name, "<frozen importlib._bootstrap>", line, None, "python")
    for name, line in (("_call_with_frames_removed", 488), ("_load_unlocked", 935), ("_find_and_load", 1360))
))  # fmt: skip
MAIN = reports.python("<module>", "/srv/app.py", 1)


def module(path: str, line: int = 3) -> Frame:
    """Return the frame of a module's code."""
    return reports.python("<module>", f"{SITE}/{path}", line)


def stack(*frames: Frame, size: int) -> StackStats:
    """Return a stack with that many MiB live and resident."""
    return reports.stack(frames, live=size, resident=size)


def test_imports_contain_one_another() -> None:
    """A module has what its own import ran, and what it imported; code read for it counts too."""
    table = StackTable.of(
        [
            stack(module("pandas/core/api.py"), *SYSTEM, module("pandas/__init__.py"), *SYSTEM, MAIN, size=100),
            stack(reports.python("f", f"{SITE}/numpy/a.py", 9), module("numpy/__init__.py"), *SYSTEM,
                  module("pandas/__init__.py", 22), *SYSTEM, MAIN, size=30),
            stack(*SYSTEM, MAIN, size=7),
            stack(reports.python("g", "/srv/app.py", 50), MAIN, size=1000),
        ]
    )  # fmt: skip
    found = {each.name: each.resident_bytes >> 20 for each in find_imports(table)}
    assert found == {"pandas": 137, "pandas.core.api": 100, "numpy": 30}
    assert next(iter(found)) == "pandas"


def test_a_program_without_imports_has_none() -> None:
    """The main module is no import."""
    assert find_imports(StackTable.of([stack(MAIN, size=5)])) == ()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (f"{SITE}/pandas/__init__.py", "pandas"),
        (f"{SITE}/pandas/core/frame.py", "pandas.core.frame"),
        ("/usr/lib/python3.11/json/decoder.py", "json.decoder"),
        ("/srv/orders/models.py", "models"),
        ("/srv/orders/__init__.py", "orders"),
    ],
)
def test_names_of_modules(file: str, name: str) -> None:
    """Below site-packages and the library with packages, else the last part."""
    assert module_name(file) == name


def test_the_import_system_is_never_the_owner() -> None:
    """The importing line owns what the import system allocated."""
    assert owning_frame((*SYSTEM, MAIN)) == MAIN
    library = module("pandas/__init__.py")
    assert owning_frame((*SYSTEM, library)) == library


def test_modules_of_one_short_name_are_apart() -> None:
    """Sums are by file: nested imports are counted once, and equal names get directories."""
    inner, outer = (reports.python("<module>", f"/srv/{each}/models.py", 3) for each in "ab")
    table = StackTable.of(
        [
            stack(inner, *SYSTEM, outer, *SYSTEM, MAIN, size=100),
            stack(outer, *SYSTEM, MAIN, size=7),
        ]
    )
    found = {each.name: each.resident_bytes >> 20 for each in find_imports(table)}
    assert found == {"b/models": 107, "a/models": 100}


def test_equal_names_get_as_many_directories_as_they_need() -> None:
    """If directories do not tell two files apart, their names are the files."""
    files = ["/x/a/models.py", "/y/a/models.py", f"{SITE}/numpy/__init__.py"]
    assert list(module_names(files).values()) == ["x/a/models", "y/a/models", "numpy"]
    files = ["/x/models.py", "/x/models/__init__.py"]
    assert module_names(files) == {each: each for each in files}


def test_frames_that_were_not_seen_end_an_import() -> None:
    """The interpreter's frames may reach the root, whose word is that of the frames not seen: no endless loop."""
    unseen = Frame("[deeper frames not seen]", None, None, None, "native")
    table = StackTable.of([stack(module("numpy/__init__.py"), *SYSTEM, unseen, size=5)])
    paths = table.paths[0]
    paths.frames_of_words[paths.word_of[0]] = (unseen,)  # as in a recording, where both are word 0
    found = {each.name: each.resident_bytes >> 20 for each in find_imports(table)}
    assert found == {"numpy": 5}
