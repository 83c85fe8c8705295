"""Runs the `>>>` examples of a public module or of a page: `python examples.py NAME`.

A process of its own for each, since examples trace, lock and measure the process they run in.
"""

from __future__ import annotations

import doctest
import inspect
import re
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


def without_example(module: str) -> list[str]:
    """Return the public names that no example uses: not their own, and not that of their class."""
    found = public_objects(module)
    shown = {name: examples_of(value) for name, value in found.items()}
    return [
        name
        for name in found
        if not shown[name]
        and not re.search(rf"\.{name.rpartition('.')[2]}\b", shown.get(name.rpartition(".")[0], ""))
    ]


def examples_of(value: Any) -> str:
    """Return the code of the examples in a docstring, or in those of the bases of a class."""
    values = value.__mro__ if inspect.isclass(value) else (value,)
    parser = doctest.DocTestParser()
    found = [
        parser.get_examples(inspect.getdoc(each) or "") for each in values if each is not object
    ]
    return "".join(example.source for examples in found for example in examples)


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
