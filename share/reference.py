"""Write the generated pages of the reference: commands, JSON, the public Python names, C headers.

    python share/reference.py FOLDER           FOLDER holds the sources of the site

The pages are Markdown, made from the argument parsers, the JSON Schemas, the docstrings and the headers, so they cannot
differ from the program.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mematlas
from mematlas.cli import commands, parser
from mematlas.present.json_schema import schema, schema_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]


def command_page(command: commands.Command) -> str:
    """Return the page of one command: its usage, description, arguments, options and examples."""
    found, _ = parser.command_parser(command)
    epilog = found.epilog or ""
    lists, _, examples = f"\n{epilog}".partition("\nexamples:\n")
    usage = _usage(found)
    parts = [
        f"# mematlas {command.name}",
        f"```text\n{usage}\n```",
        _paragraphs(found.description or ""),
        *_groups(found),
        *_subcommands(found),
        *([f"```text\n{lists.strip()}\n```"] if lists.strip() else []),
        f"## Examples\n\n```console\n{_prompts(examples)}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(found: argparse.ArgumentParser) -> str:
    """Return the usage without the word, and without the indent below it."""
    return re.sub(r"\n {7}", "\n", found.format_usage()).removeprefix("usage: ").strip()


def _paragraphs(text: str) -> str:
    """Return a description as Markdown: indented lists stay as they are."""
    parts = [part.strip("\n") for part in text.strip().split("\n\n")]
    return "\n\n".join(f"```text\n{each}\n```" if "\n  " in each else _text(each) for each in parts)


def _groups(found: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the tables of arguments and of options."""
    actions = [
        each
        for each in found._actions  # noqa: SLF001 - has no public name
        if each.help != argparse.SUPPRESS and not isinstance(each, argparse._SubParsersAction)  # noqa: SLF001
    ]
    for heading, options in (("Arguments", False), ("Options", True)):
        rows = [_row(each) for each in actions if bool(each.option_strings) is options]
        if rows:
            yield "\n".join([f"## {heading}", "", *rows])


def _row(action: argparse.Action) -> str:
    """Return an argument as an entry of a definition list."""
    value = _value(action)
    names = [f"{name} {value}".strip() for name in action.option_strings] or [value]
    choices = action.choices and not action.metavar and ", ".join(f"`{c}`" for c in action.choices)
    text = _text(_help(action)) + (f". One of {choices}" if choices else "")
    return f"{', '.join(f'`{name}`' for name in names)}\n: {text}\n"


def _value(action: argparse.Action) -> str:
    """Return what stands for the value of an argument in its usage."""
    if action.nargs == 0:
        return ""
    shown = action.metavar or (action.dest.upper().replace("_", "-"))
    text = " ".join(shown) if isinstance(shown, tuple) else shown
    return f"[{text}]" if action.option_strings and action.nargs == "?" else text


def _help(action: argparse.Action) -> str:
    """Return the help of an argument, with its default filled in as argparse does."""
    text = action.help or ""
    return text % {**vars(action), "prog": "mematlas"} if "%" in text else text


def _text(text: str) -> str:
    """Return plain text as Markdown, on one line, with nothing in it that Markdown would take."""
    return re.sub(r"([\\*_<>\[\]|#$])", r"\\\1", " ".join(text.split()))


def _subcommands(found: argparse.ArgumentParser) -> Iterator[str]:
    for action in found._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, part in action.choices.items():
                usage = _usage(part)
                tables = [group.replace("## ", "### ") for group in _groups(part)]
                description = [_paragraphs(part.description)] if part.description else []
                heading = f"## {found.prog} {name}"
                yield "\n\n".join([heading, f"```text\n{usage}\n```", *description, *tables])


def _prompts(examples: str) -> str:
    return "\n".join(f"$ {line.strip()}" for line in examples.splitlines() if line.strip())


def schema_page(name: str) -> str:
    """Return the page of one JSON Schema: what it says, a table of its fields, the schema."""
    found = schema(name)
    rows = [f"| `{path}` | {kind} | {text} |" for path, kind, text in _fields(found, "")]
    return "\n".join(
        [
            f"# {found['title']}",
            "",
            f"`{found['$id']}`, printed by `mematlas schema {name}`.",
            "",
            _text(found.get("description", "")),
            "",
            "| field | type | |",
            "|---|---|---|",
            *rows,
            "",
            "## The schema",
            "",
            f"```json\n{json.dumps(found, indent=1)}\n```",
            "",
        ]
    )


def _fields(part: dict[str, Any], path: str, depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and description of each field, in the order of the schema."""
    for name, field in part.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, _type(field), _text(field.get("description", ""))
        if depth < 6:  # schemas refer to themselves nowhere; a limit costs nothing
            yield from _fields(field, here, depth + 1)
            if isinstance(field.get("items"), dict):
                yield from _fields(field["items"], f"{here}[]", depth + 1)


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(each)}`" for each in field["enum"])
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(_type(each) for each in field.get("anyOf") or field["oneOf"])
    if "$ref" in field:
        return f"`{field['$ref'].rpartition('/')[2]}`"
    kind = field.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def public_modules() -> list[str]:
    """Return the names of the modules among the public names."""
    values = {name: getattr(mematlas, name) for name in mematlas.__all__}
    return [f"mematlas.{name}" for name, value in values.items() if inspect.ismodule(value)]


def module_page(name: str) -> str:
    """Return the page of a public module; autodoc fills it from the docstrings."""
    options = "   :members:\n   :imported-members:\n   :member-order: alphabetical\n"
    return f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n"


def header_page(header: Path) -> str:
    """Return the page of a C header: the header, whose comments are the reference."""
    return f"# {header.name}\n\n```c\n{header.read_text('utf-8').strip()}\n```\n"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path below `reference/` and the text of each generated page."""
    for command in commands.COMMANDS:
        yield f"commands/{command.name}.md", command_page(command)
    for name in schema_names():
        yield f"json/{name}.md", schema_page(name)
    for module in ("mematlas", *public_modules()):
        yield f"python/{module}.md", module_page(module)
    for name in ("mematlas.h", "mematlas_alloc.h", "mematlas_mark.h"):
        yield f"c/{name}.md", header_page(ROOT / "native/include" / name)


def main(folder: Path) -> None:
    """Write the pages below `reference/` of a folder. A page whose text is the same keeps its time."""
    for name, text in pages():
        path = folder / "reference" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
