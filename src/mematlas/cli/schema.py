"""Print the JSON Schema of what a command prints with --json.

A schema has a number. What a schema promises stays as it is until the number changes: fields may be added, none is removed
or gets another meaning.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.present.json_schema import schema, schema_names

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("schema", "schema report")


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
    names = schema_names()
    if arguments.name is None:
        for name in names:
            print(f"{name:<10} {schema(name)['title']}")
        return 0
    if arguments.name not in names:
        raise UsageError(f"{arguments.name!r} has no schema; choose of {', '.join(names)}")
    print(json.dumps(schema(arguments.name), indent=2))
    return 0
