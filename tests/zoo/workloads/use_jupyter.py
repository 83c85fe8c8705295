"""Run a notebook in a kernel, as `jupyter execute` does."""

import nbclient
import nbformat

book = nbformat.v4.new_notebook()
book.cells = [
    nbformat.v4.new_code_cell("kept = [bytes([i]) * 1_000_000 for i in range(60)]"),
    nbformat.v4.new_code_cell("import time; time.sleep(1.5); print(len(kept))"),
]
nbclient.NotebookClient(book, kernel_name="python3").execute()
print(book.cells[1].outputs[0]["text"])
