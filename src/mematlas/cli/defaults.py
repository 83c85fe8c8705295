"""Defaults of options: from MEMATLAS_COMMAND_OPTION in the environment, and [tool.mematlas.COMMAND] of pyproject.toml.

The options are those that change what is recorded or shown. One that writes a file or runs something has no such
default: the project may be a stranger's.
"""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path
from typing import Any

from mematlas.cli.markdown import BY_DEFAULT
from mematlas.errors import UsageError
from mematlas.linux.regular_file import open_regular

OPTIONS: dict[str, tuple[str, ...]] = {
    "run": ("exact", "sample-bytes", "interval", "idle", "seed", "faults", "label"),
    "attach": ("exact", "sample-bytes", "interval", "idle", "seed", "label"),
    "report": ("by", "top", "skip", "keep", "markdown", "step-summary"),
    "leaks": ("top", "skip", "keep", "fail-over", "markdown", "step-summary"),
    "diff": (
        "by",
        "top",
        "all",
        "ignore-lines",
        "skip",
        "keep",
        "fail-over",
        "markdown",
        "step-summary",
    ),
    "export": ("by", "frames", "unit", "table", "label"),
}
"""The options that may have a default, by command."""

_FILE = "pyproject.toml"
_TABLE = b"tool.mematlas"
_MOST_BYTES = 1 << 20  # of the file
_GIVING_WAY = frozenset(("markdown", "step-summary"))  # to other output that is asked for
_YES, _NO = frozenset(("1", "true", "yes", "on")), frozenset(("", "0", "false", "no", "off"))


def apply_defaults(command: str, parser: argparse.ArgumentParser) -> None:
    """Replace the defaults of a command's options by those of the user.

    The environment outweighs the file, and the command line outweighs both. An empty variable is as none, or turns a
    switch off.

    Raises:
        UsageError: a value is malformed, or the file names an option that can have no default.
    """
    allowed = OPTIONS.get(command, ())
    if not allowed:
        return
    values = {name: (value, place) for name, value, place in _of_file(command, allowed)}
    for name in allowed:
        variable = f"MEMATLAS_{command}_{name}".upper().replace("-", "_")
        if variable in os.environ:
            values[name] = (os.environ[variable], variable)
    for action in parser._actions:  # noqa: SLF001 - has no public name
        name = next((each[2:] for each in action.option_strings if each.startswith("--")), "")
        if name in values:
            value, place = values[name]
            if value == "" and action.nargs != 0:
                continue
            found = _default(action, value, place)
            action.default = BY_DEFAULT if found is True and name in _GIVING_WAY else found


def _of_file(command: str, allowed: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    """Return names, values and places of the defaults in the project's file."""
    file = find_file(Path.cwd())
    if file is None:
        return []
    path, text = file
    table = _parse(path, text)
    found = []
    for name, value in table.get(command, {}).items():
        place = f"{path}: [tool.mematlas.{command}] {name}"
        if name not in allowed:
            raise UsageError(f"{place} can have no default; choose of {', '.join(allowed)}")
        found.append((name, value, place))
    return found


def find_file(folder: Path) -> tuple[Path, bytes] | None:
    """Return the nearest pyproject.toml, from a folder up, that speaks of mematlas, and its text; None: there is none."""
    for each in (folder, *folder.parents):
        try:
            text = _read(each)
        except OSError:  # none here, not ours to read, or a pipe
            continue
        if _TABLE in text:
            return each / _FILE, text
    return None


def _read(folder: Path) -> bytes:
    """Read the file of a folder; b"" if it is too long, or a stranger's in a folder that all may write, such as /tmp."""
    with open_regular(folder / _FILE) as file:
        own = os.fstat(file.fileno()).st_uid in {0, os.geteuid()}
        if not own and folder.stat().st_mode & stat.S_IWOTH:
            return b""
        text = file.read(_MOST_BYTES + 1)
    return text if len(text) <= _MOST_BYTES else b""


def _parse(path: Path, text: bytes) -> dict[str, dict[str, Any]]:
    import tomllib

    try:
        table = tomllib.loads(text.decode())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    for name in ("tool", "mematlas"):
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise UsageError(
                f"{path}: {name} is no table; defaults stand in [tool.mematlas.COMMAND]"
            )
    unknown = [
        name for name, value in table.items() if not isinstance(value, dict) or name not in OPTIONS
    ]
    if unknown:
        raise UsageError(
            f"{path}: [tool.mematlas] has no {unknown[0]!r}; its tables are {', '.join(OPTIONS)}"
        )
    return dict(table)


def _default(action: argparse.Action, value: Any, place: str) -> Any:
    """Return the value as the parser wants it: it converts words by the type of the option."""
    if action.nargs == 0:
        return _switch(value, place)
    if isinstance(action, argparse._AppendAction):  # noqa: SLF001 - has no public name
        words = value if isinstance(value, list) else [value]
        return [str(each) for each in words]
    if isinstance(value, (list, dict, bool)):
        raise UsageError(f"{place}: {value!r} is not one value")
    if action.choices is not None and str(value) not in action.choices:
        raise UsageError(f"{place}: {value!r} is none of {', '.join(map(str, action.choices))}")
    if callable(action.type):
        try:
            return action.type(str(value))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{place}: {error}") from None
    return str(value)


def _switch(value: Any, place: str) -> bool:
    word = str(value).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise UsageError(f"{place}: {value!r} is neither true nor false")
