"""Write the JSON Schemas of what mematlas.present.json_writer renders: dataclasses, from their types.

    scripts/schemas            write src/mematlas/present/schemas
    scripts/schemas --check    fail if a file is not what the types say

A change here is a change of what users read. Fields may be added; a removal or another meaning is a new number.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import json
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent.parent / "src/mematlas/present/schemas"
sys.path.insert(0, str(FOLDER.parents[2]))
from mematlas.present.json_writer import TextFlags  # noqa: E402

_CONTROL, _OBSERVE = "mematlas.control.", "mematlas.observe."
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "show": ("the address space of a process", (_OBSERVE + "address_space.model:AddressSpace",)),
    "pages": ("the states of the pages of a process", ("mematlas.linux.pageflags:PageReport",)),
    "where": ("what is at an address", ("mematlas.linux.pageflags:PageLocation",)),
    "ps": ("all processes", ("mematlas.linux.processes:ProcessTable",)),
    "system": ("a topic of the memory of the machine", (_OBSERVE + "machine.model:Topic",)),
    "wss": ("the working set of a process", (_OBSERVE + "working_set.model:WorkingSet",)),
    "cache": ("files in the page cache", (_OBSERVE + "page_cache.model:CacheReport",)),
    "probe": ("kernel interfaces that can be read", (_OBSERVE + "probe.model:Probe",)),
    "faults": (
        "page faults: rates of a process, where they happen (--where), sums of a command, or the demonstration (--demo)",
        tuple(
            _OBSERVE + f"page_faults.model:{name}"
            for name in ("FaultRates", "FaultProfile", "FaultTotals", "DemandDemonstration")
        ),
    ),
    "top": ("one snapshot of all processes", ("<top>",)),
    "bench": ("results of benchmarks", ("<bench>",)),
    "exec": ("the settings of a program", (_CONTROL + "exec.model:LaunchPlan",)),
    "migrate": ("pages of a process by node", (_CONTROL + "migrate.model:Migration",)),
    "bench-compare": ("changes between two results", ("mematlas.bench.compare:Comparison",)),
    "tune-show": ("knobs with their values", ("[mematlas.control.tune.model:Reading]",)),
    "tune-plan": (
        "what a change would write; with --profile list, the profiles",
        (_CONTROL + "tune.model:Plan", "{mematlas.control.tune.profiles:Profile}"),
    ),
    "tune-apply": (
        "what was written; without --yes the plan, with --profile list the profiles",
        (
            "mematlas.cli.tune:Answer",
            _CONTROL + "tune.model:Plan",
            "{mematlas.control.tune.profiles:Profile}",
        ),
    ),
    "tune-verify": ("the last change against the current values", ("mematlas.cli.tune:Answer",)),
    "tune-undo": ("what was restored", ("mematlas.cli.tune:Answer",)),
    "lake-add": ("the recordings that were added", ("mematlas.lake.model:Addition",)),
    "lake-show": (
        "days, services and versions; with --files the names of its files",
        ("mematlas.lake.model:LakeSummary", "[builtins:str]"),
    ),
    "lake-top": ("lines with most memory in all hosts", ("mematlas.lake.model:Top",)),
    "lake-trend": ("the memory of a host by day and line", ("mematlas.lake.model:Trend",)),
    "lake-diff": ("two groups of recordings", ("mematlas.lake.model:LakeDiff",)),
    "lake-regress": ("lines that grew across hosts", ("mematlas.lake.model:Regression",)),
    "lake-compact": ("what was merged and deleted", ("mematlas.lake.model:Maintenance",)),
    "lake-expire": ("what was removed", ("mematlas.lake.model:Maintenance",)),
    "oom": (
        "what is known of an OOM kill; with --list, of each",
        ("mematlas.agent.oom.model:OomReport", "[mematlas.agent.oom.model:OomReport]"),
    ),
    "tune-history": ("all changes", ("[mematlas.control.tune.model:Transaction]",)),
}
"""Command, what it prints, and the models: [X] is a list of them, {X} an object of them by name.
<NAME> is put together by the function of that name, as the command puts its dataclasses together.
"""
_PLAIN = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    bytes: {"type": "string"},
    type(None): {"type": "null"},
    typing.Any: {},
    object: {},
}


class Types:
    """Schemas of types; those of dataclasses are definitions, which are referred to."""

    def __init__(self) -> None:
        """Begin without definitions."""
        self.definitions: dict[str, object] = {}
        self._names: dict[type, str] = {}

    def of(self, kind: object) -> dict[str, object]:
        """Return the schema of a type as json_writer writes its values."""
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in {typing.Union, types.UnionType}:
            return self._union([self.of(each) for each in inner])
        if origin is typing.Literal:
            return {"enum": list(inner)}
        if origin is not None:
            return self._container(origin, inner)
        return self._class(kind)

    def _class(self, kind: object) -> dict[str, object]:
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._enum(kind)
        if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._tuple(hints(kind).values())
        raise TypeError(kind)

    @staticmethod
    def _union(found: list[dict[str, object]]) -> dict[str, object]:
        if all(set(each) == {"type"} and isinstance(each["type"], str) for each in found):
            return {"type": [each["type"] for each in found]}
        return {"anyOf": found}

    def _container(self, origin: object, inner: tuple[object, ...]) -> dict[str, object]:
        name = getattr(origin, "__name__", "")
        if name in {"dict", "Mapping"}:
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        if name == "tuple" and inner[-1:] != (...,):
            return self._tuple(inner)
        return {"type": "array", "items": self.of(inner[0])}

    def _tuple(self, inner: Iterable[object]) -> dict[str, object]:
        items = [self.of(each) for each in inner]
        return {
            "type": "array",
            "prefixItems": items,
            "minItems": len(items),
            "maxItems": len(items),
        }

    @staticmethod
    def _enum(kind: type[enum.Enum]) -> dict[str, object]:
        if issubclass(kind, enum.IntFlag) and issubclass(kind, TextFlags):
            return {"type": "string"}
        if issubclass(kind, enum.StrEnum):
            return {"enum": [each.value for each in kind]}
        return {"type": "integer"}

    def _dataclass(self, kind: type) -> dict[str, object]:
        name = self._names.get(kind)
        if name is None:
            name = kind.__name__
            if name in self.definitions:
                name = f"{kind.__module__.rpartition('.')[2]}_{name}"
            self._names[kind] = name
            self.definitions[name] = {}  # holds the place, for what refers to itself
            found = hints(kind)
            properties = {each.name: self.of(found[each.name]) for each in dataclasses.fields(kind)}
            text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
            self.definitions[name] = {
                **(
                    {"description": " ".join(text.split())} if text and "(" not in text[:40] else {}
                ),
                **fields_of(properties),
            }
        return {"$ref": f"#/$defs/{name}"}


def hints(kind: type) -> dict[str, object]:
    """Return the types of a class's fields, also those that its module imports for checking only."""
    found: dict[str, object] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("mematlas"):
            # A public class names the module that users import it from; its functions know the one that defines it.
            made_in = getattr(each.__init__, "__globals__", {}).get("__name__", each.__module__)
            names = Names(sys.modules[made_in])
            found |= {
                name: eval(text, names) if isinstance(text, str) else text  # noqa: S307 - our own source
                for name, text in inspect.get_annotations(each).items()
            }
    return found


class Names(dict[str, object]):
    """The names of a module, with those it imports below `if TYPE_CHECKING`."""

    def __init__(self, module: types.ModuleType) -> None:
        """Read the module's imports."""
        super().__init__(vars(module))
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                for each in node.body:  # imports, and names of types
                    exec(compile(ast.Module([each], []), module.__name__, "exec"), self)  # noqa: S102


def fields_of(properties: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return the schema of an object that has all these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def top(kinds: Types) -> dict[str, object]:
    """Return the schema of what observe.top.text.to_json() makes."""
    from mematlas.observe.top import model as models

    snapshot, process = hints(models.MachineSnapshot), hints(models.ProcessSnapshot)
    names = ("time_s", "cost", "kernel_threads", "meminfo", "vmstat", "stalls")
    sample = {
        "started_ticks": kinds.of(process["started"]),
        "age_s": {"type": ["number", "null"]},
        "rates": kinds.of(models.ProcessRates | None),
        "process": kinds.of(process["row"]),
    }
    return fields_of(
        {
            **{name: kinds.of(snapshot[name]) for name in names},
            "pressure": kinds.of(models.MemoryPressure),
            "processes": {"type": "array", "items": fields_of(sample)},
        }
    )


def bench(kinds: Types) -> dict[str, object]:
    """Return the schema of what bench.model.to_json() makes: results, with statistics of each figure."""
    from mematlas.bench import model as models

    computed = ("median", "best", "low", "high", "spread")
    figure = {
        **{name: kinds.of(kind) for name, kind in hints(models.Figure).items()},
        **{name: {"type": ["number", "null"]} for name in computed},
        "noisy": {"type": "boolean"},
    }
    section = {
        **{name: kinds.of(kind) for name, kind in hints(models.Section).items()},
        "figures": {"type": "array", "items": fields_of(figure)},
    }
    result = {name: kinds.of(kind) for name, kind in hints(models.Result).items()}
    for name in ("Section", "Figure"):
        kinds.definitions.pop(name, None)
    return fields_of({**result, "sections": {"type": "array", "items": fields_of(section)}})


def model(text: str, kinds: Types) -> dict[str, object]:
    """Return the schema of a model as MODELS names it."""
    if text.startswith("<"):
        return {"<top>": top, "<bench>": bench}[text](kinds)
    module, _, name = text.strip("[]{}").partition(":")
    found = kinds.of(getattr(importlib.import_module(module), name))
    if text.startswith("["):
        return {"type": "array", "items": found}
    return {"type": "object", "additionalProperties": found} if text.startswith("{") else found


def document(command: str) -> str:
    """Return the schema of a command's output as the text of its file."""
    summary, models = MODELS[command]
    kinds = Types()
    data = [model(each, kinds) for each in models]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"mematlas/{command}/1",
        "title": f"Output of `mematlas {command.replace('-', ' ')} --json`: {summary}.",
        "description": "Sizes are bytes, unless a name says pages; times are seconds. null is unknown.",
        "type": "object",
        "properties": {
            "schema": {"const": f"mematlas/{command}/1"},
            "data": data[0] if len(data) == 1 else {"anyOf": data},
        },
        "required": ["schema", "data"],
        "$defs": dict(sorted(kinds.definitions.items())),
    }
    return json.dumps(whole, indent=1) + "\n"


def main() -> int:
    """Write or check all files."""
    is_check, wrong = sys.argv[1:] == ["--check"], False
    for command in MODELS:
        path = FOLDER / f"{command}-1.json"
        text = document(command)
        if not path.exists() or path.read_text("utf-8") != text:
            wrong = True
            if is_check:
                print(
                    f"{path.name} is not what the types say; run scripts/schemas", file=sys.stderr
                )
            else:
                path.write_text(text, "utf-8")
    return int(is_check and wrong)


if __name__ == "__main__":
    sys.exit(main())
