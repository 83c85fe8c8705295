"""Words of the stack trie resolve to frames: module, line, unknown words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import synthetic_recording
from mematlas.recording import read
from mematlas.recording.frames import Resolver, resolve_missing
from mematlas.recording.model import PYTHON, CodeObject, Frame, Module

if TYPE_CHECKING:
    from pathlib import Path


def python_word(number: int, offset: int) -> int:
    """Return the trie word of a Python instruction."""
    return PYTHON | number << 32 | offset


def test_python_words_give_function_file_and_line() -> None:
    """Each instruction of a function resolves to the interpreter's own line."""
    code = test_python_words_give_function_file_and_line.__code__
    known = CodeObject(
        code.co_qualname, code.co_filename, code.co_firstlineno, code.co_linetable, 2
    )
    lines = [line for line, *_ in code.co_positions()]
    words = [python_word(1, 2 * index) for index in range(len(lines))]
    found = Resolver().resolve(words, [], [known])
    for word, line in zip(words, lines, strict=True):
        assert found[word] == (Frame(code.co_qualname, code.co_filename, line, None, "python"),)


def test_unknown_words_say_what_is_unknown() -> None:
    """Unknown code, cut stacks and addresses outside all files have frames of their own."""
    found = Resolver().resolve([0, 0x1234, python_word(3, 0)], [], [])
    assert found[0][0].function == "[deeper frames not seen]"
    assert found[0x1234][0] == Frame("0x1234", None, None, None, "native")
    assert found[python_word(3, 0)][0].function == "[unknown Python code]"


def test_offsets_of_damaged_words_need_not_ascend() -> None:
    """Bit 31 of a word is of no offset; the word has the line of the bits below."""
    code = test_unknown_words_say_what_is_unknown.__code__
    known = CodeObject(
        code.co_qualname, code.co_filename, code.co_firstlineno, code.co_linetable, 2
    )
    words = [python_word(1, 100), python_word(1, 6), python_word(1, 6) | 1 << 31]
    found = Resolver().resolve(words, [], [known])
    assert found[words[1]] == found[words[2]]
    assert len(found) == 3


def test_a_call_at_the_end_of_a_module_is_its_own() -> None:
    """A return address may be one past the end of the calling module."""
    modules = [
        Module("/x/first", "", 0x1000, 0x1000, 0x2000),
        Module("/x/second", "", 0x2000, 0x2000, 0x3000),
    ]
    found = Resolver().resolve([0x1000, 0x1001, 0x2000, 0x2001], modules, [])
    names = [found[word][0].module for word in (0x1000, 0x1001, 0x2000, 0x2001)]
    assert names == [None, "/x/first", "/x/first", "/x/second"]


def test_the_module_loaded_last_holds() -> None:
    """Where a module replaced an unloaded one, the later one holds."""
    modules = [Module("/x/old", "", 0, 0x1000, 0x3000), Module("/x/new", "", 0, 0x2000, 0x3000)]
    found = Resolver().resolve([0x1800, 0x2800], modules, [])
    assert [found[word][0].module for word in (0x1800, 0x2800)] == ["/x/old", "/x/new"]


def test_known_words_are_left_alone() -> None:
    """Only unknown words are resolved; addresses may have 63 bits."""
    words = np.array([5, 6, (1 << 63) - 1], np.uint64)
    assert set(Resolver().resolve(words, [], [], {5})) == {6, (1 << 63) - 1}


def test_a_recording_without_frames_gets_them_later(tmp_path: Path) -> None:
    """A recording cut before its frames is resolved when read."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    recording = read(path)
    kept = {word: recording.frames[0].pop(word) for word in synthetic_recording.WORDS[3:]}
    notes = resolve_missing(recording)
    assert set(recording.frames[0]) >= set(synthetic_recording.WORDS[1:])
    assert (
        recording.frames[0][synthetic_recording.WORDS[1]]
        == synthetic_recording.FRAMES[synthetic_recording.WORDS[1]]
    )
    assert recording.frames[0][synthetic_recording.WORDS[3]] != kept[synthetic_recording.WORDS[3]]
    assert len(notes) == 1
    assert "libc.so.6" in notes[0]
