"""Line tables, compared with co_positions() of CPython."""

from __future__ import annotations

import argparse
import decimal
import inspect
import sys
import typing
from types import CodeType

import pytest

from mematlas.recording.linetable import LOCATIONS, PEP626, decode


def all_codes(code: CodeType) -> list[CodeType]:
    """Return a code object and the nested ones."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(deeper for each in inner for deeper in all_codes(each))]


@pytest.mark.parametrize("module", [argparse, typing, inspect, decimal], ids=lambda m: m.__name__)
def test_lines_are_those_of_the_interpreter(module: typing.Any) -> None:
    """Each instruction of real modules has the line co_positions() gives it."""
    with open(module.__file__, "rb") as file:  # noqa: PTH123
        codes = all_codes(compile(file.read(), module.__file__, "exec"))
    for code in codes:
        for index, (line, *_) in enumerate(code.co_positions()):
            found = decode(LOCATIONS, code.co_linetable, code.co_firstlineno, 2 * index)
            assert found == line, (code, index)


def test_the_table_of_python_3_10_is_read() -> None:
    """Pairs of byte and line steps; -128 means that there is no line."""
    table = bytes([4, 1, 2, 0x80, 2, 0xFF])
    lines = [decode(PEP626, table, 10, offset) for offset in range(0, 10, 2)]
    assert lines == [11, 11, None, 10, None]


def test_what_is_beyond_or_cut_has_no_line() -> None:
    """Offsets beyond the table, cut tables and unknown formats give None."""
    code = all_codes.__code__
    assert decode(LOCATIONS, code.co_linetable, code.co_firstlineno, 1 << 20) is None
    assert decode(LOCATIONS, b"\xf0\x40", 1, 0) is None
    beyond = b"\xe8" + b"\x7f" * 12 + b"\x00" * 4  # a step of more than 64 bits
    assert decode(LOCATIONS, beyond, 1, 0) is None
    assert decode(99, code.co_linetable, code.co_firstlineno, 0) is None
    assert sys.version_info >= (3, 11)
