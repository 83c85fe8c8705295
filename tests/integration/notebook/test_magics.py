"""`%load_ext mematlas` in a kernel of Jupyter, and in a terminal."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

CELLS = (
    "%load_ext mematlas",
    "def load(n):\n    return [bytes(100_000) for _ in range(n)]",
    "%%mematlas --exact\ndata = load(200)\nmore = bytearray(b'x') * (30 << 20)\nlen(data)",
    "%mematlas_report",
    "%%mematlas\n1 / 0",
    "import mematlas\ntraced = mematlas.trace('own.atlas', exact=True).start()\nx = load(300)\ntraced.stop()",
    "traced.report()",
    "%%mematlas --exact -o kept.atlas\nthird = load(10)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Execute the cells in a kernel, and return the outputs of each."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in CELLS])
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    assert (folder / "kept.atlas").exists()
    return [[dict(output) for output in cell.outputs] for cell in notebook.cells]


def html_of(cell: list[dict[str, Any]]) -> str:
    """Return the HTML that a cell displayed."""
    found = [
        output["data"]["text/html"] for output in cell if "text/html" in output.get("data", {})
    ]
    assert len(found) == 1, cell
    return str(found[0])


def test_a_traced_cell_shows_its_report(outputs: list[list[dict[str, Any]]]) -> None:
    """The result of the cell comes first, then its report, with cells named as the notebook numbers them."""
    first, second = outputs[2]
    assert first["data"]["text/plain"] == "200"
    html = html_of([second])
    assert "<code>&lt;module&gt;</code> In [3]:2" in html
    assert "<code>load" in html
    assert "In [2]:2" in html
    assert "30.0 MiB" in html
    assert "every allocation recorded" in html
    text = second["data"]["text/plain"]
    assert text.startswith("mematlas: ")
    assert "\x1b" not in text


def test_the_whole_report_is_a_page_without_network(
    outputs: list[list[dict[str, Any]]], open_page: Callable[[str], Any]
) -> None:
    """`%mematlas_report` shows the page in a frame, in which its scripts run without an error."""
    html = html_of(outputs[3])
    assert "stderr" not in str(outputs[3])
    page, problems = open_page(f"<!doctype html><body>{html}</body>")
    frame = page.frame_locator("iframe")
    assert "In [3]:2" in frame.locator("body").inner_text()
    assert frame.locator("canvas").count() > 0
    assert problems == []


def test_errors_of_a_cell_are_shown(outputs: list[list[dict[str, Any]]]) -> None:
    """A cell that raises shows its error, and the report of what ran."""
    error, report = outputs[4]
    assert error["ename"] == "ZeroDivisionError"
    assert "mematlas-cell" in html_of([report])


def test_traces_and_reports_have_short_displays(outputs: list[list[dict[str, Any]]]) -> None:
    """A Trace shows its report, and a Report itself; its repr is one line."""
    html = html_of(outputs[5])
    assert "In [2]:2" in html
    (report,) = outputs[6]
    assert report["data"]["text/plain"].startswith("<Report of ")
    assert len(report["data"]["text/plain"]) < 200
    alone = html_of(outputs[6])
    assert "In [2]:2" in alone
    assert 'class="bar"' in alone
    assert "<code>load" in alone


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_cell_is_readable_in_both_themes(
    outputs: list[list[dict[str, Any]]], theme: str, open_page: Callable[[str], Any]
) -> None:
    """The text has the colour of the notebook around it."""
    ink, paper = ("rgb(17, 17, 17)", "#fff") if theme == "light" else ("rgb(221, 221, 221)", "#111")
    body = f"<body style='color:{ink};background:{paper}'>{html_of(outputs[2][1:])}</body>"
    page, problems = open_page(f"<!doctype html>{body}")
    colours = page.eval_on_selector_all(
        ".mematlas-cell p, .mematlas-cell td, .mematlas-cell code",
        "all => [...new Set(all.map(each => getComputedStyle(each).color))]",
    )
    assert colours == [ink]
    assert problems == []


def test_a_terminal_shows_text(tmp_path: Path) -> None:
    """In IPython without a notebook the report is text; an unknown option is named."""
    code = (
        "ip = get_ipython()\n"
        "ip.run_line_magic('load_ext', 'mematlas')\n"
        "ip.run_cell_magic('mematlas', '--exact --top 1', \"data = bytearray(b'x' * 120) * (1 << 18)\")\n"
        "ip.run_cell_magic('mematlas', '--nothing', '1')\n"
    )
    (tmp_path / "cells.ipy").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "cells.ipy"],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "mematlas: " in done.stdout, done.stdout + done.stderr
    assert "30.0 MiB" in done.stdout
    assert "--nothing" in done.stdout + done.stderr
