"""Runs the code blocks of a page of the documentation in a folder.

A comment in front of a fenced block says what it is; readers of the page do not see it.

    <!-- needs: flask -->           the page is skipped without these packages
    <!-- file: app.py -->           the block is a file
    <!-- file: app.py; quick: 2_000_000 = 20_000 -->    with a smaller figure in the tests
    <!-- run -->                    a console block: its commands end with 0
    <!-- run: 1 -->                 the last command ends with 1
    <!-- run: if TEST; 137 -->      skipped unless the shell command TEST succeeds

What a console block shows must be true: each `file:line` in it is in the real output. Blocks of Python that are no files run
in one process, in their order.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PLACE = re.compile(r"\b[\w/]+\.(?:py|c):\d+")
TIMEOUT_S = 240


@dataclass(frozen=True)
class Block:
    """A fenced block: its mark, its language and its text."""

    mark: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the block is; "" if it is none."""
        found = re.match(r"file: ([^;]*)", self.mark)
        return found[1] if found else ""

    @property
    def file_text(self) -> str:
        """The text of the file, with the figure that makes it quick."""
        found = re.search(r"; quick: (.*) = (.*)", self.mark)
        if found is None:
            return self.text
        assert found[1] in self.text, f"{found[1]} is not in {self.file}"
        return self.text.replace(found[1], found[2])

    @property
    def is_run(self) -> bool:
        """Whether the block is commands to run."""
        return self.mark == "run" or self.mark.startswith("run: ")

    @property
    def condition(self) -> str:
        """The shell command that must succeed for this block to run."""
        found = re.match(r"run: if ([^;]*)", self.mark)
        return found[1] if found else "true"

    @property
    def status(self) -> int:
        """The exit status of the last command."""
        found = re.search(r"(\d+)$", self.mark)
        return int(found[1]) if found and not self.mark.endswith("]") else 0

    @property
    def commands(self) -> list[str]:
        """The commands behind the prompts."""
        return re.findall(r"^\$ (.*)", self.text, re.MULTILINE)

    @property
    def places(self) -> set[str]:
        """Each file:line that the shown output names."""
        shown = re.sub(r"^\$ .*", "", self.text, flags=re.MULTILINE)
        return set(PLACE.findall(shown))


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    return [Block(*(part or "" for part in found)) for found in BLOCK.findall(page)]


def needs(page: str) -> list[str]:
    """Return the packages that a page needs."""
    found = re.search(r"^<!-- needs: (.*) -->$", page, re.MULTILINE)
    return found[1].split() if found else []


def run_page(page: str, folder: Path) -> list[str]:
    """Run the blocks of a page in a folder. Return the conditions that did not hold; AssertionError if a block fails."""
    skipped = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.file_text)
        elif block.is_run:
            if _shell(block.condition, folder).returncode != 0:
                skipped.append(block.condition)
            else:
                _run(block, folder)
    python = "".join(
        each.text for each in blocks(page) if each.language == "python" and not each.mark
    )
    if python:
        _expect(_start([sys.executable, "-c", python], folder), 0, python)
    return skipped


def _run(block: Block, folder: Path) -> None:
    output = ""
    for number, command in enumerate(block.commands, 1):
        last = number == len(block.commands)
        done = _shell(command, folder)
        _expect(done, block.status if last else 0, command)
        output += done.stdout
    missing = {each for each in block.places if each not in output}
    assert not missing, f"{missing} is not in the output:\n{output}"


def _shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return _start(["bash", "-c", command], folder)


def _start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder with this interpreter's programs first; errors go with the output."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # noqa: PTH120 - not resolved
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def _expect(done: subprocess.CompletedProcess[str], status: int, command: str) -> None:
    """Compare an exit status, that of a signal as a shell reports it."""
    found = done.returncode if done.returncode >= 0 else 128 - done.returncode
    assert found == status, f"{command}: exit status {done.returncode}\n{done.stdout}"
