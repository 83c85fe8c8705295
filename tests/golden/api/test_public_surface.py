"""The public names and their signatures.

`UPDATE_GOLDEN=1 pytest tests/golden/api` writes the file anew; review the diff, and name it in the
changelog.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mematlas

if TYPE_CHECKING:
    from collections.abc import Iterator

SURFACE = Path(__file__).parents[2] / "data/public-surface.txt"
MODULES = (
    "mematlas",
    "mematlas.bench",
    "mematlas.errors",
    "mematlas.memory",
    "mematlas.observe",
)


class Plain:
    """An annotation or default that shows as written."""

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self._text = text

    def __repr__(self) -> str:
        return self._text


def signature(value: Any, name: str) -> str:
    """Return a signature as it stands in the source, with `...` for a default that is a function."""
    found = inspect.signature(value)
    parameters = [
        each.replace(
            annotation=plain(each.annotation),
            default=Plain("...") if callable(each.default) else each.default,
        )
        if each.default is not each.empty
        else each.replace(annotation=plain(each.annotation))
        for each in found.parameters.values()
    ]
    whole = found.replace(parameters=parameters, return_annotation=plain(found.return_annotation))
    return f"{name}{whole}"


def plain(annotation: Any) -> Any:
    """Return an annotation without quotes."""
    return Plain(annotation) if isinstance(annotation, str) else annotation


def describe(name: str, value: Any) -> Iterator[str]:
    """Return a line for a public name, and one for each public member of a class."""
    if inspect.isclass(value):
        yield from describe_class(name, value)
    elif inspect.ismodule(value):
        yield f"module {name}"
    elif isinstance(value, property):
        assert value.fget
        yield f"{name}: {inspect.signature(value.fget).return_annotation}"
    elif callable(value):
        yield signature(value, name)
    else:
        yield f"{name}: {type(value).__name__}"


def describe_class(name: str, cls: type) -> Iterator[str]:
    """Return the lines of a class: how it is made, its fields, methods and properties."""
    bases = ", ".join(each.__name__ for each in cls.__bases__ if each is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if not issubclass(cls, Exception):
        yield f"    {signature(cls, name)}"
    for member in sorted(dir(cls)):
        if member.startswith("_") or not owned(cls, member):
            continue
        value = getattr(cls, member)
        if inspect.ismemberdescriptor(value):
            kinds = (vars(each).get("__annotations__", {}) for each in cls.__mro__)
            yield f"    {member}: {next((each[member] for each in kinds if member in each), 'Any')}"
        else:
            yield from (f"    {line}" for line in describe(member, value))


def owned(cls: type, member: str) -> bool:
    """Tell whether a member is defined by a class of mematlas, not by a builtin base."""
    definers = [each for each in cls.__mro__ if member in vars(each)]
    return definers[0].__module__.startswith("mematlas")


def surface() -> str:
    """Return all public names of all public modules."""
    lines: list[str] = []
    for name in MODULES:
        module = import_module(name)
        lines += [name, *(f"    {line}" for line in listed(module)), ""]
    return "\n".join(lines)


def listed(module: Any) -> Iterator[str]:
    """Return the lines of one module's public names."""
    for name in module.__all__:
        yield from describe(name, getattr(module, name))


def test_the_public_surface_is_as_it_was() -> None:
    """No public name or signature changes without someone looking at it."""
    found = surface()
    if os.environ.get("UPDATE_GOLDEN"):
        SURFACE.write_text(found, encoding="utf-8")
    assert found == SURFACE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_names_are_sorted_and_there(name: str) -> None:
    """__all__ is sorted, and every name in it resolves."""
    module = import_module(name)
    assert list(module.__all__) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, each) for each in module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_classes_and_functions_name_their_public_module(name: str) -> None:
    """A class shows as mematlas.Recording, not as the file it is defined in."""
    module = import_module(name)
    for each in module.__all__:
        value = getattr(module, each)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__ in {name, "mematlas"}


def test_dir_lists_the_public_names_only() -> None:
    """Completion in an interactive session shows what there is."""
    assert dir(mematlas) == mematlas.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mematlas.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_errors_are_builtin_errors_too() -> None:
    """A caller may catch ValueError and LookupError."""
    assert issubclass(mematlas.UsageError, ValueError)
    assert issubclass(mematlas.TargetError, LookupError)
    assert not issubclass(mematlas.MematlasError, OSError)


def test_the_import_is_light() -> None:
    """`import mematlas` loads neither NumPy nor rich nor the compiled core."""
    code = (
        "import sys, mematlas; "
        "sys.exit(' '.join({'numpy', 'rich', 'cffi', 'mematlas._native'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
