"""Numbers of system calls against the kernel's headers of each processor."""

import platform
import re
from pathlib import Path

import pytest

from mematlas.linux import system_calls
from mematlas.linux.system_calls import system_call_number

HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
RENAMED = {"fcntl": "__NR3264_fcntl", "mmap": "__NR3264_mmap", "fstat": "__NR3264_fstat"}
RENAMED |= {"newfstatat": "__NR3264_fstatat"}


def test_one_table_a_processor_and_the_same_names_in_each() -> None:
    """A name that one processor lacks would fail at attach there only."""
    tables = system_calls._NUMBERS
    assert tables["x86_64"].keys() == tables["aarch64"].keys()
    assert system_call_number("close") == tables[platform.machine()]["close"]


@pytest.mark.parametrize("processor", HEADERS)
def test_the_numbers_are_those_of_the_headers(processor: str) -> None:
    """Read what the C compiler would."""
    header = Path(HEADERS[processor])
    if not header.exists():
        pytest.skip(f"no {header} here")
    defined = dict(re.findall(r"^#define (__NR\w+)\s+(\d+)", header.read_text(), re.MULTILINE))
    for name, number in system_calls._NUMBERS[processor].items():
        key = f"__NR_{name}"
        found = defined.get(key) or defined[RENAMED[name]]
        assert int(found) == number, name
