"""Markdown of reports: what a renderer of GitHub's tables makes of hostile names."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from mematlas.recording.model import Sampling
from mematlas.report.markdown import _table, code, plain, render_leaks
from mematlas.report.model.leaks import Leaks, RssGrowth

BREAK = "\N{ZERO WIDTH SPACE}"
HOSTILE = (
    "<module>",
    "a|b",
    "`tick`",
    "``two``",
    "<script>alert(1)</script>",
    "@someone #12 https://example.com",
    "**bold** _under_ [link](x)",
    "line\nbreak",
    "trailing\\",
    "\\|",
    " padded ",
    "",
    "`",
    "ends with `",
    "operator<|>",
    "x" * 500,
)


class Text(HTMLParser):
    """Collects the texts of cells and paragraphs, and the names of all elements."""

    def __init__(self) -> None:
        """Start with nothing."""
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - as the base class calls it
        """Note an element, and begin a cell."""
        self.elements.add(tag)
        if tag in {"td", "p"}:
            self.cells.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in {"td", "p"}:
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Extend the cell."""
        if self._inside:
            self.cells[-1] += data


def shown(markdown: str) -> Text:
    """Return what a browser shows of Markdown."""
    found = Text()
    found.feed(MarkdownIt("gfm-like", {"linkify": False}).render(markdown))
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_in_its_cell(name: str) -> None:
    """A code span in a table shows the name, and nothing of the name takes effect."""
    found = shown(
        "\n".join(_table(("size", "line"), "rl", [("1 B", code(name)), ("2 B", code("x"))]))
    )
    assert len(found.cells) == 4
    assert found.elements <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert found.cells[0::2] == ["1 B", "2 B"]
    if len(name) < 100 and "\n" not in name and "\\" not in name:
        assert found.cells[1].strip() == name.strip()


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_text_is_shown_as_it_is(name: str) -> None:
    """Escaped text has no element but its paragraph."""
    found = shown(f"It says {plain(name)}.".replace(BREAK, ""))
    assert found.elements == {"p"}
    if "\n" not in name and "\\" not in name:
        assert " ".join(found.cells[0].split()) == " ".join(f"It says {name}.".split())


def test_a_table_without_rows_is_nothing() -> None:
    """No heads stand without rows."""
    assert list(_table(("a", "b"), "ll", [])) == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("libx@team:2", ("libx@", "team:2")),
        ("see #12", ("see #", "12")),
        ("gh-7", ("gh-", "7")),
        ("https://example.com", ("https:", "//example.com")),
        ("www.example.com", ("www", ".example.com")),
    ],
)
def test_plain_text_is_neither_mention_nor_link(name: str, parts: tuple[str, str]) -> None:
    """A forge links bare addresses, people and issues, and takes no notice of backslashes."""
    (text,) = shown(plain(name)).cells
    assert text.replace(BREAK, "") == name
    assert text.split(BREAK) == list(parts)


@pytest.mark.parametrize("known", [True, False])
def test_growth_outside_live_allocations_is_listed(*, known: bool) -> None:
    """What fails --fail-over is in the Markdown, as in the text; what is not known is said."""
    growth = RssGrowth(
        process=0, kind="slack", name="glibc heap", bytes=5 << 20, error_bytes=1 << 20,
        since_s=1.0, time_s=9.0, end_bytes=7 << 20,
    )  # fmt: skip
    leaks = Leaks(
        command=("app",), started="", sampling=Sampling("exact", 1, 1.0), complete=True, time_s=9.0,
        live_bytes=0, likely_bytes=0, leaks=(), bad_frees=(), notes=(),
        growth=(growth,) if known else (), growth_unknown=int(not known),
    )  # fmt: skip
    text = "\n".join(render_leaks(leaks, top=5))
    assert ("5.00 MiB ± 1.00 MiB | allocator slack \\(glibc heap\\)" in text) == known
    assert ("is unknown" in text) != known
