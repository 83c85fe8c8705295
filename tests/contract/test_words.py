"""The tree uses the field's terms and plain technical English."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tracked_files import ROOT, tracked

# Names that a systems engineer would have to translate, each with the term to use.
METAPHORS = {
    r"\bkeepers?(_|\b)": "thread cache",
    r"\bparcels?(_|\b)": "batch",
    r"\boutbox": "remote-free queue",
    r"\bexchange(_works|_open|_close|_adopt|\.h|\.c)\b": "remote free",
    r"\bnursery": "bootstrap allocator",
    r"\brehears": "preflight",
    r"\bgadget": "syscall instruction",
    r"\b(Borrow|borrow)\w*": "remote call, shared ring",
    r"\b(Lend|lend|lent)(er|ing|s)?\b": "allocator, exported buffer",
    r"\bgainsay": "contradict, conflict",
    r"\btimeless": "untimed",
    r"_at_hand\b": "_thread_fast",
    r"_freeing_otherwise\b": "_free_slow",
    r"_from_anywhere\b": "_walk_reset",
    r"_take_last_look\b": "_exit_snapshot",
    r"\bpatience": "timeout",
    r"\bpiloted\b": "tui_driver",
    r"\bcheckups\b": "doctor_states",
    r"\bsmaps_twin\b": "reference_smaps",
    r"\bso long after\b": "the offset",
    r"\bwhat became of\b": "the outcome",
    r"\bto whom\b": "a noun",
    r"\bwhoever\b": "a noun",
    r"\bdoings\b": "a noun",
    r"\bit did not come to be\b": "was not created",
}
TEXT = ("src/*.py", "src/*.js", "native/*.c", "native/*.h", "tests/*.py", "tests/*.c", "docs/*.md", "*.md", "scripts/*")  # fmt: skip
VERBS = re.compile(r"(Give|Tell|Say|Put|Look|Let|Judge|Ask|Know)\b")


def test_no_private_metaphors() -> None:
    """No file uses a name that has a term in the field."""
    any_of_them = re.compile("|".join(METAPHORS))
    texts = {
        path: path.read_text("utf-8", "replace")
        for path in tracked(*TEXT)
        if path != Path(__file__)  # which lists the names
    }
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()!r}, write {better}"
        for path, text in texts.items()
        if any_of_them.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, better in METAPHORS.items()
        if (match := re.search(pattern, line))
    ]
    assert not found


def test_docstrings_begin_with_a_verb_of_the_field() -> None:
    """A function's docstring begins with Return, Read, Parse, Format ..., not with Give or Tell."""
    found = []
    for path in tracked("src/*.py", "tests/*.py", "benchmarks/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if VERBS.match(text):
                    line = text.splitlines()[0]
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {line}")
    assert not found
