"""The magics: `%%mematlas` traces a cell, `%mematlas_report` shows its whole report."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as MagicUsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from mematlas.api.cell_views import cell_numbers
from mematlas.api.in_process import trace
from mematlas.api.recording import open as open_recording
from mematlas.api.views import html_page
from mematlas.errors import MematlasError
from mematlas.notebook.cells import CellResult, latest, name_cells

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mematlas.api.recording import Recording


@magics_class
class MematlasMagics(Magics):
    """Magics that trace the kernel's process. The last recording is kept for `%mematlas_report`."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Start without a recording."""
        super().__init__(shell)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._last: Recording | None = None
        self._count = 0
        self._inner: dict[str, int] = {}  # files of traced cells, which IPython numbers apart

    @magic_arguments()
    @argument("--exact", action="store_true", help="record every allocation, not a sample")
    @argument("-o", "--output", metavar="FILE", help="keep the recording in this file")
    @argument("--top", type=int, default=10, metavar="N", help="list the first N lines")
    @cell_magic
    def mematlas(self, line: str, cell: str) -> None:
        """Trace a cell, and show what owns its memory.

        Memory that was allocated before the cell counts as allocator slack. An error of the cell is shown as usual, and
        the report of what ran until then.
        """
        from IPython.display import display

        options = parse_argstring(self.mematlas, line)
        path = options.output or self._path()
        traced = trace(path, exact=options.exact)
        before = cell_numbers(self.shell)
        try:
            traced.start()
        except MematlasError as error:
            raise MagicUsageError(f"mematlas: {error}") from None
        try:
            assert self.shell
            # Its result was shown by the cell itself, an error too.
            self.shell.run_cell(cell, store_history=False)
        finally:
            try:
                traced.stop()
            except MematlasError as error:
                raise MagicUsageError(f"mematlas: {error}") from None
        self._inner.update(
            dict.fromkeys(set(cell_numbers(self.shell)) - set(before), latest(before))
        )
        self._last = name_cells(open_recording(path), self.shell, self._inner)
        display(CellResult(self._last, top=options.top))

    @magic_arguments()
    @argument("file", nargs="?", help="a recording (default: of the last traced cell)")
    @argument("--height", type=int, default=640, metavar="PIXELS", help="of the page")
    @line_magic
    def mematlas_report(self, line: str) -> Any:
        """Show the whole report, with flame graph and timeline, as a page inside the notebook."""
        from IPython.display import HTML

        options = parse_argstring(self.mematlas_report, line)
        try:
            if options.file:
                self._last = name_cells(open_recording(options.file), self.shell, self._inner)
            if self._last is None:
                raise MagicUsageError("trace a cell by %%mematlas first, or name a recording")
            page = html_page(self._last)
        except MematlasError as error:
            raise MagicUsageError(f"mematlas: {error}") from None
        text = page.replace("&", "&amp;").replace('"', "&quot;")
        return HTML(
            f'<div><iframe srcdoc="{text}" width="100%" height="{options.height}" frameborder="0" '
            'sandbox="allow-scripts allow-popups allow-downloads"></iframe></div>'
        )

    def _path(self) -> str:
        """Return a new name in a folder that is removed with the kernel."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="mematlas-notebook-")
        self._count += 1
        return str(Path(self._folder.name, f"cell-{self._count}.atlas"))


def load(shell: InteractiveShell) -> None:
    """Register the magics, as `%load_ext mematlas` asks."""
    shell.register_magics(MematlasMagics)
