"""Print the JSON Schema of what a command prints with --json.

A schema has a number. What a schema promises stays as it is until the number changes: fields may be added, none is removed
or gets another meaning.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

from mematlas.errors import UsageError

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("schema", "schema report")
_ENDING = "-1.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas schema`."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a command, or tree, packages and window of `report` (default: list the schemas)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a schema, or list them all."""
    folder = resources.files("mematlas.present").joinpath("schemas")
    names = sorted(
        each.name.removesuffix(_ENDING) for each in folder.iterdir() if each.name.endswith(_ENDING)
    )
    if arguments.name is None:
        for name in names:
            print(f"{name:<10} {_read(name)['title']}")
        return 0
    if arguments.name not in names:
        raise UsageError(f"{arguments.name!r} has no schema; choose of {', '.join(names)}")
    print(json.dumps(_read(arguments.name), indent=2))
    return 0


def _read(name: str) -> dict[str, object]:
    folder = resources.files("mematlas.present").joinpath("schemas")
    found: dict[str, object] = json.loads(folder.joinpath(f"{name}{_ENDING}").read_text("utf-8"))
    return found
