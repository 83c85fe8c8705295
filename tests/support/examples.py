"""Runs the `>>>` examples of a public module or of a page: `python examples.py NAME`.

A process of its own for each, since examples trace, lock and measure the process they run in.
"""

from __future__ import annotations

import doctest
import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

import mematlas

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_objects(module: str) -> dict[str, Any]:
    """Return the documented public names of a module: functions, classes and their members."""
    found: dict[str, Any] = {}
    space = import_module(module)
    for name in space.__all__:
        value = getattr(space, name)
        if inspect.ismodule(value) or get_origin(value) or not callable(value):
            continue
        found[f"{module}.{name}"] = value
        if inspect.isclass(value):
            found |= {
                f"{module}.{name}.{member}": getattr(value, member)
                for member in dir(value)
                if not member.startswith("_") and is_documented(value, member)
            }
    return found


def is_documented(cls: type, member: str) -> bool:
    """Return whether a member of a class is a method or property that mematlas defines."""
    definer = next(each for each in cls.__mro__ if member in vars(each))
    value = getattr(cls, member)
    return definer.__module__.startswith("mematlas") and (
        callable(value) or isinstance(value, property)
    )


def has_example(value: Any) -> bool:
    """Return whether a docstring contains an example."""
    return bool(doctest.DocTestParser().get_examples(inspect.getdoc(value) or ""))


def tests_of(name: str) -> list[doctest.DocTest]:
    """Return the examples of a public module, or of a page."""
    parser, spaces = doctest.DocTestParser(), {"mematlas": mematlas}
    texts = (
        {name: Path(name).read_text(encoding="utf-8")}
        if name.endswith(".md")
        else {each: inspect.getdoc(value) or "" for each, value in public_objects(name).items()}
    )
    return [
        parser.get_doctest(text, dict(spaces), each, name, 0)
        for each, text in texts.items()
        if parser.get_examples(text)
    ]


def main(name: str) -> int:
    """Run the examples; return 1 if one of them fails."""
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for test in tests_of(name):
        runner.run(test)
    return int(bool(runner.summarize(verbose=False).failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
