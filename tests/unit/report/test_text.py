"""Terminal reports: text, width and consoles."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

import reports
from mematlas.present import drawing
from mematlas.present.printable import shorten
from mematlas.present.tables import show
from mematlas.recording.model import Frame
from mematlas.report import quantities
from mematlas.report.analyse.lines import LIBRARY, OWN, RUNTIME, lines, owner, tier
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.model.report import METRICS, Report
from mematlas.report.text import render_report, render_summary


def text_of(report: Report, by: str = "resident", width: int = 100, encoding: str = "utf-8") -> str:
    """Return the report as a file of this encoding gets it."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(
        file=file, width=width, legacy_windows=False, force_terminal=True, color_system=None
    )
    render_report(report, lines(report.stacks, by), top=10, by=by, console=console)
    render_summary(report, lines(report.stacks, "resident"), "x.atlas", console=console)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("by", METRICS)
@pytest.mark.parametrize("name", ["python_service", "native_program", "unseen", "hostile"])
def test_every_report_can_be_written_in_ascii(name: str, by: str) -> None:
    """Output on an ASCII console is ASCII only."""
    assert "Lines" in text_of(getattr(reports, name)(), by, encoding="ascii")


def test_no_colour_where_there_is_no_terminal() -> None:
    """Output to a pipe has no escape sequences."""
    assert "\x1b" not in text_of(reports.hostile())


def test_hostile_names_stay_in_their_line() -> None:
    """Control and direction characters are escaped; long names are cut in the middle."""
    text = text_of(reports.hostile())
    assert "\u202e" not in text
    assert "\\u202e" in text
    assert len(text) < 20_000


def test_the_unseen_is_unknown() -> None:
    """Unknown values are reported as unknown, never as 0."""
    text = text_of(reports.unseen())
    assert "Resident memory is unknown" in text
    assert "0 B" not in text
    assert "0.0 %" not in text


def test_a_cut_run_says_so() -> None:
    """Reports of a cut recording are marked."""
    assert "not complete" in text_of(replace(reports.python_service(), complete=False))


@pytest.mark.parametrize(
    ("frame", "whose"),
    [
        (Frame("main", "/srv/shop/orders.py", 3, None, "python"), OWN),
        (Frame("main", "orders.py", 3, None, "python"), OWN),
        (Frame("loads", "/usr/lib/python3.11/json/__init__.py", 3, None, "python"), LIBRARY),
        (Frame("x", "<frozen importlib._bootstrap>", 3, None, "python"), RUNTIME),
        (Frame("x", "/a/lib/python3.11/site-packages/p/x.py", 3, None, "python"), LIBRARY),
        (Frame("malloc", None, None, "/usr/lib/libc.so.6", "native"), RUNTIME),
        (Frame("_PyObject_Malloc", "Objects/obmalloc.c", 9, "python3.11", "native"), RUNTIME),
        (Frame("std::vector<int>::push_back", "/usr/include/v.h", 9, "app", "inlined"), RUNTIME),
        (Frame("alloc::vec::Vec<T>::push", "/rustc/x/vec.rs", 9, "app", "inlined"), RUNTIME),
        (Frame("SSL_new", None, None, "/usr/lib/libssl.so.3", "native"), LIBRARY),
        (Frame("run", None, None, "/home/a/app", "native"), OWN),
        (Frame("run", "/usr/local/src/a.c", 1, "/usr/local/bin/app", "native"), OWN),
    ],
)
def test_whose_code_a_frame_is(frame: Frame, whose: int) -> None:
    """Own code, library and runtime are distinguished by file, module and name."""
    assert tier(frame) == whose


def test_the_owner_is_the_innermost_frame_of_the_program() -> None:
    """A line of the program owns the allocations of libraries and interpreter it causes."""
    report = reports.python_service()
    owners = [stack.frames[owner(stack.frames) or 0].function for stack in report.stacks]
    assert owners == ["load_orders", "load_orders", "reserve", "daily_totals", "remember",
                      "<module>", "0x7f21a", "work"]  # fmt: skip
    assert owner(()) is None


@pytest.mark.parametrize("by", METRICS)
def test_lines_lose_no_byte(by: str) -> None:
    """Lines sum to the stacks, largest first."""
    report = reports.python_service()
    ranked = [line.bytes[by] for line in lines(report.stacks, by)]
    assert sum(ranked) == sum(stack.metric(by) for stack in report.stacks)
    assert ranked == sorted(ranked, reverse=True)


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=8), st.integers(8, 300))
def test_the_account_bar_is_always_full(sizes: list[int], width: int) -> None:
    """Parts fill the bar completely; each nonzero part gets a column."""
    columns = drawing.columns_of(sizes, width)
    assert sum(columns) == (width if any(sizes) else 0)
    assert all((size > 0) == (column > 0) for size, column in zip(sizes, columns, strict=True))


@given(st.text(), st.integers(1, 50))
def test_shortened_text_fits_and_keeps_its_ends(text: str, width: int) -> None:
    """Only the middle is cut, and only if necessary."""
    short = shorten(text, width)
    assert len(short) <= width
    assert short == text if len(text) <= width else "…" in short


def test_paths_are_shown_from_where_they_are_known() -> None:
    """Paths are relative to the program, site-packages or the standard library."""
    assert short_path("/srv/shop/a/b.py", "/srv/shop") == "a/b.py"
    assert (
        short_path("/srv/shop/.venv/lib/python3.11/site-packages/p/q.py", "/srv/shop") == "p/q.py"
    )
    assert short_path("/usr/lib/python3.11/json/decoder.py") == "json/decoder.py"
    assert short_path("/srv/shopping/b.py", "/srv/shop") == "/srv/shopping/b.py"


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ((0,) * 7, "none freed"),
        ((3, 0, 0, 0, 0, 0, 1), "4 freed: 75.0 % within 1 ms, median lifetime below 100 us"),
        ((0, 0, 0, 0, 1, 1, 0), "2 freed: 0.0 % within 1 ms, median lifetime below 1 s"),
        (
            (1, 0, 0, 0, 0, 0, 2),
            "3 freed: 33.3 % within 1 ms, median lifetime 10 s or more",
        ),
    ],
)
def test_lifetimes_are_put_in_words(blocks: tuple[int, ...], said: str) -> None:
    """Lifetimes are summed up in one phrase."""
    assert quantities.lifetimes(blocks) == said


@given(width=st.integers(24, 60))
def test_a_number_stays_with_its_noun(width: int) -> None:
    """Lines break neither within `1 major` nor within `4 KiB`, and nothing else changes."""
    text = Text("12.0 MiB made resident by 12,345 page faults, 1 major (1 in 61 sampled)", "dim")
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    found = drawing.wrapped(text, width, console)
    assert " ".join(line.plain for line in found) == text.plain
    assert all(len(line) <= width for line in found)
    assert not any(line.plain[-1].isdigit() for line in found)


def test_files_and_pipes_get_whole_lines() -> None:
    """Without a terminal nothing is wrapped or cut to a width, and no line ends with blanks."""
    file = io.StringIO()
    console = Console(file=file, width=40)
    report = reports.native_program()
    render_report(report, lines(report.stacks, "resident"), top=5, by="resident", console=console)
    show(console, ("=name", ">size", "<path"), [["a" * 60, "1", "/long/" * 30], ["b", "22", "/x"]])
    text = file.getvalue()
    answer = next(line for line in text.splitlines() if "resident at" in line)
    assert "The largest owner is" in answer
    assert f"{'a' * 60}     1  {'/long/' * 30}\n" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_totals_are_told() -> None:
    """Allocated, freed and outstanding memory with their counts; freed only where the account is of the end."""
    report = reports.native_program()
    file = io.StringIO()
    console = Console(file=file)
    ranked = lines(report.stacks, "resident")
    render_report(report, ranked, top=5, by="resident", console=console)
    whole = sum(each.allocations for each in report.stacks)
    assert f"allocated in {whole:,} allocations" in file.getvalue()
    assert "freed in" not in file.getvalue()
    ended = replace(report, account=replace(report.account, trigger="exit"))
    render_report(ended, ranked, top=5, by="resident", console=console)
    blocks = sum(each.live_count for each in report.stacks)
    assert f"freed in {whole - blocks:,} frees" in file.getvalue()
    assert f"outstanding in {blocks:,} blocks, at the end" in file.getvalue()
