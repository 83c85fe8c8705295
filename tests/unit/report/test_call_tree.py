"""Call trees and sums by package, of made-up stacks."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest
from rich.console import Console

from json_schemas import schema
from mematlas.recording.model import Frame
from mematlas.report.analyse.call_tree import make_call_tree
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.packages import package_of, sum_packages
from mematlas.report.json_writer import render_call_tree, render_packages
from mematlas.report.model.report import StackStats
from mematlas.report.text.call_tree import TreeLimits
from mematlas.report.text.call_tree import render_call_tree as draw_tree
from mematlas.report.text.call_tree import render_packages as draw_packages

MIB = 1 << 20
SITE = "/venv/lib/python3.11/site-packages"
MAIN = Frame("main", "/app/run.py", 3, None, "python")
LOAD = Frame("load", "/app/data/load.py", 9, None, "python")
SAVE = Frame("save", "/app/data/save.py", 5, None, "python")
IMPORT = Frame("_find_and_load", "<frozen importlib._bootstrap>", 1027, None, "python")
READ = Frame("read", f"{SITE}/pandas/io/parsers.py", 100, None, "python")
TAKE = Frame("take", None, None, f"{SITE}/numpy.libs/libtake.so", "native")
MALLOC = Frame("malloc", None, None, "/usr/lib/libc.so.6", "native")


def stats(*frames: Frame, size: int, process: int = 0, error: int = 0) -> StackStats:
    """Return a stack (leaf first) with live bytes."""
    figures = dict.fromkeys(("peak_bytes", "allocated_bytes", "allocations", "resident_bytes"), 0)
    more = dict.fromkeys(("huge_bytes", "swapped_bytes"), 0)
    return StackStats(
        frames,
        "malloc",
        process,
        live_bytes=size,
        live_count=1,
        error_bytes=error,
        **figures,
        **more,
    )


STACKS = [
    stats(MALLOC, TAKE, READ, LOAD, IMPORT, MAIN, size=60 * MIB, error=3 * MIB),
    stats(MALLOC, READ, LOAD, MAIN, size=20 * MIB, error=4 * MIB),
    stats(MALLOC, SAVE, MAIN, size=15 * MIB, process=1),
    stats(MALLOC, MAIN, size=4 * MIB),
    stats(size=MIB),
]


def drawn(width: int = 80, *, terminal: bool = False, least: float = 0.01, **options: bool) -> str:
    """Return the tree as text."""
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=terminal, color_system=None)
    tree = make_call_tree(STACKS, "live", directory="/app", **options)
    draw_tree(tree, TreeLimits(least=least), "/app", console, None)
    return "\n".join(file.getvalue().splitlines()[1:])


def test_a_tree_from_the_roots() -> None:
    """Frames of the runtime and the import system are left out; an only child continues its parent's line."""
    assert drawn().splitlines() == [
        "     100 MiB 100.0 %     ±5 %  all",
        "    99.0 MiB  99.0 %     ±5 %  ├─ main  run.py:3",
        "    80.0 MiB  80.0 %     ±6 %  │  ├─ load  data/load.py:9",
        "                               │  │  read  pandas/io/parsers.py:100",
        "    60.0 MiB  60.0 %     ±5 %  │  │  ╰─ take  libtake.so",
        "    15.0 MiB  15.0 %           │  ╰─ save  data/save.py:5",
        "    1.00 MiB   1.0 %           ╰─ unknown stack",
    ]


def test_a_tree_from_the_leaves() -> None:
    """Inverted, the functions with memory of their own come first, their callers below."""
    text = drawn(inverted=True)
    assert text.splitlines()[1:4] == [
        "    60.0 MiB  60.0 %     ±5 %  ├─ take  libtake.so",
        "                               │  read  pandas/io/parsers.py:100",
        "                               │  load  data/load.py:9",
    ]
    assert "    4.00 MiB   4.0 %           ├─ main  run.py:3" in text


def test_a_tree_of_packages() -> None:
    """Frames in a row of one package are one node."""
    text = drawn(by_package=True)
    assert "    80.0 MiB  80.0 %     ±6 %  │  ├─ data" not in text  # save is of the same folder
    assert "    95.0 MiB  95.0 %     ±5 %  │  ╰─ data" in text
    assert "    80.0 MiB  80.0 %     ±6 %  │     ╰─ pandas" in text
    assert "    60.0 MiB  60.0 %     ±5 %  │        ╰─ numpy" in text


def test_what_is_left_out_is_counted() -> None:
    """Branches below the threshold, or beyond the depth, are one line with their sum."""
    text = drawn(least=0.2)
    assert "    15.0 MiB  15.0 %" not in text
    file = io.StringIO()
    tree = make_call_tree(STACKS, "live")
    draw_tree(tree, TreeLimits(depth=1), "/app", Console(width=80, file=file), None)
    assert "    95.0 MiB  95.0 %           │  ╰─ 2 more calls (--depth N)" in file.getvalue()
    for least in (0.0, 0.05, 0.3):
        assert make_call_tree(STACKS, "live").root.bytes == 100 * MIB, least


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_a_terminal_and_are_whole_elsewhere(width: int) -> None:
    """On a terminal no line is wider than it; in a pipe nothing is cut."""
    long = Frame("f" * 90, "/app/" + "d" * 90 + ".py", 1, None, "python")
    tree = make_call_tree([stats(long, MAIN, size=MIB)], "live")
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(width=width, file=file, force_terminal=terminal, color_system=None)
        draw_tree(tree, TreeLimits(), "/app", console, None)
        longest = max(map(len, file.getvalue().splitlines()))
        assert longest <= width if terminal else longest > 180


def test_an_ascii_terminal_gets_ascii() -> None:
    """Box drawing has stand-ins."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    draw_tree(
        make_call_tree(STACKS, "live"), TreeLimits(), "/app", Console(file=file, width=80), None
    )
    file.seek(0)
    assert "|- main" in file.read()


def test_an_unknown_metric_has_no_tree() -> None:
    """What was not measured is no empty tree."""
    file = io.StringIO()
    tree = make_call_tree(STACKS, "pss")
    draw_tree(tree, TreeLimits(), "/app", Console(file=file, width=200), "not in this recording")
    assert file.getvalue() == "Tree of calls  PSS: unknown, not in this recording\n"
    data = json.loads("".join(render_call_tree(tree, None, 0.01, known=False)))["data"]
    assert (data["nodes"], data["total_bytes"]) == ([], None)


@pytest.mark.parametrize(
    ("frame", "package"),
    [
        (LOAD, "data"),
        (MAIN, "run.py"),
        (READ, "pandas"),
        (TAKE, "numpy"),
        (MALLOC, "libc.so.6"),
        (IMPORT, "Python standard library"),
        (Frame("f", None, None, f"{SITE}/_cffi_backend.cpython-311-x86_64-linux-gnu.so", "native"), "_cffi_backend"),
        (Frame("f", f"{SITE}/six.py", 1, None, "python"), "six"),
        (Frame("loads", "/usr/lib/python3.11/json/__init__.py", 1, None, "python"), "Python standard library"),
        (Frame("f", None, None, "/usr/lib/python3.11/lib-dynload/_json.so", "native"), "Python standard library"),
        (Frame("f", None, None, "/usr/lib/libpython3.11.so.1.0", "native"), "CPython"),
        (Frame("f", "x.c", 3, "/opt/server", "native"), "server"),
        (Frame("f", "/srv/node_modules/@scope/lib/a.js", 1, None, "native"), "@scope/lib"),
        (Frame("0x7f", None, None, None, "native"), "0x7f"),
    ],
)  # fmt: skip
def test_packages_of_frames(frame: Frame, package: str) -> None:
    """Installed packages have their import name, libraries their file name."""
    assert package_of(frame, "/app") == package


def test_lines_by_package() -> None:
    """Lines are summed by the package of the owning line."""
    ranked = lines(STACKS, "live")
    packages = sum_packages(ranked, "live", "/app")
    assert [(each.name, each.bytes["live"] // MIB) for each in packages] == [
        ("data", 95),
        ("run.py", 4),
        ("unknown stack", 1),
    ]
    file = io.StringIO()
    draw_packages(
        packages, "live", top=2, directory="/app", console=Console(file=file), why_unknown=None
    )
    assert "data  2 lines, largest load data/load.py:9" in file.getvalue()
    assert "in 1 more package (--top N)" in file.getvalue()


def test_json_follows_the_schemas() -> None:
    """Trees and packages validate, and depth gives the parent of a node."""
    tree = make_call_tree(STACKS, "live", by_package=True, directory="/app")
    answer = json.loads("".join(render_call_tree(tree, None, 0.0, known=True)))
    jsonschema.validate(answer, schema("tree"))
    nodes = answer["data"]["nodes"]
    assert sum(each["own_bytes"] for each in nodes) == nodes[0]["bytes"] == 100 * MIB
    assert [each["depth"] for each in nodes] == [0, 1, 2, 3, 4, 1]
    packages = sum_packages(lines(STACKS, "live"), "live")
    jsonschema.validate(
        json.loads("".join(render_packages(packages, "live", known=True))), schema("packages")
    )
