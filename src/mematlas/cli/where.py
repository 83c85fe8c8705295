"""Say what one address of a process is: mapping, place in the file, symbol, page, frame."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mematlas.errors import TargetError

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings
    from mematlas.linux.process import ProcessDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process, or self")
    parser.add_argument("address", metavar="ADDR", type=address, help="hexadecimal, 0x or not")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/where/1)")


def address(text: str) -> int:
    """Read a hexadecimal address."""
    try:
        return int(text, 16)
    except ValueError:
        message = f"{text!r} is not a hexadecimal address"
        raise argparse.ArgumentTypeError(message) from None


def run(arguments: argparse.Namespace) -> int:
    """Look the address up and print what is there."""
    from mematlas.linux import cgroup_names, pagemap, smaps
    from mematlas.linux.process import open_process, parse_pid
    from mematlas.observe.address.analyse import analyse_address

    pid = parse_pid(arguments.pid)
    with open_process(pid) as process:
        mappings, _ = smaps.read_from(process, fields=False)
        index = mappings.find(arguments.address)
        if index is None:
            raise TargetError(f"process {pid} has nothing mapped at {arguments.address:#x}")
        page = arguments.address & ~4095
        found = pagemap.read_from(process, [(page, page + 4096)])
        symbol = _symbol(process, mappings, index, arguments.address)
    names = cgroup_names.read_names() if found.cgroup is not None else {}
    location = analyse_address(found, mappings.row(index), arguments.address, names, symbol)
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("where", location))
        return 0
    from rich.console import Console

    from mematlas.observe.address.text import render_location

    render_location(location, console=Console())
    return 0


def _symbol(
    process: ProcessDirectory, mappings: Mappings, index: int, at: int
) -> tuple[str | None, str | None]:
    """Find function and source line, if the file has them."""
    from mematlas.linux.program import read_loaded

    loaded = read_loaded(process, mappings, index) if mappings.inode[index] else None
    if loaded is None:
        return None, None
    from mematlas.recording.model import Module
    from mematlas.recording.symbols import open_table

    module = Module(loaded.path, "", loaded.bias, mappings.start[index], mappings.end[index])
    # The table takes return addresses, and looks at the byte before.
    frames = open_table(module).frames(at - loaded.bias + 1)
    if not frames or not frames[0].function:
        return None, None
    line = f":{frames[0].line}" if frames[0].line else ""
    return frames[0].function, f"{frames[0].file}{line}" if frames[0].file else None
