"""`where` names the variable that holds an address, to the byte, in .data and in both parts of .bss."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from mematlas import observe

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
#include <stdio.h>
#include <unistd.h>
char large[1 << 20];
int initialized[100] = {1};
int main(void)
{
    large[70000] = 1;
    printf("%p %p %p %p\\n", (void *)large, (void *)(large + 70000), (void *)&initialized[5], (void *)main);
    fflush(stdout);
    return (int)read(0, large, 1);
}
"""


@pytest.mark.parametrize("flags", [[], ["-no-pie"], ["-static"]])
def test_variables_are_named(tmp_path: Path, flags: list[str]) -> None:
    """A variable by its name, an address inside it by its offset, and a function as before."""
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-g", *flags, "-o", program, source], check=True)
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        addresses = [int(word, 16) for word in child.stdout.readline().split()]
        found = [observe.where(address, child.pid).symbol for address in addresses]
        child.communicate("x")
    assert found == ["large", "large+0x11170", "initialized+0x14", "main"]
