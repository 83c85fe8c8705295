"""Print the JSON Schema of what a command prints with --json.

The number in the name of a schema changes when a field is removed or gets another meaning. Fields may be added without:
readers ignore those that they do not know.
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
        help="a command, such as ps or tune-show, or tree, packages and window of `report` (default: list the schemas)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a schema, or list them all."""
    names = schema_names()
    if arguments.name is None:
        for name in names:
            print(f"{name:<14} {schema(name)['title']}")
        return 0
    if arguments.name not in names:
        parts = [each for each in names if each.startswith(f"{arguments.name}-")]
        raise UsageError(f"{arguments.name!r} has no schema; choose of {', '.join(parts or names)}")
    print(json.dumps(schema(arguments.name), indent=2))
    return 0
