"""What is measured: the workloads, and the ways to run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SOURCES = HERE / "workloads"


@dataclass(frozen=True, slots=True)
class Workload:
    """A program to run; `python` says whether memray can run it."""

    name: str
    command: tuple[str, ...]
    python: bool = False


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to run a workload. `wrap(measure, workload, recording)` gives the whole command.

    `measure` is the front part that measures only what comes after it, so what stands before it
    is the tool's own process. `feed` reads a FIFO beside the program.
    """

    name: str
    wrap: Callable[[list[str], Workload, Path], list[str]]
    python_only: bool = False
    feed: str | None = None


def compile_c(source: Path, output: Path) -> str:
    """Build a C program with frame pointers left out, as distributions do."""
    subprocess.run(["gcc", "-O2", "-g", "-pthread", source, "-o", output], check=True)
    return str(output)


def templates(count: int) -> str:
    """Write a C++ source that makes a compiler work: containers, regexes, lambdas."""
    heads = "".join(f"#include <{h}>\n" for h in ("algorithm", "functional", "map", "regex"))
    body = """
int work{n}(const std::string &text) {{
    std::map<std::string, std::vector<std::function<int(int)>>> steps;
    steps[text].push_back([&](int x) {{ return x * {n} + int(text.size()); }});
    auto &own = steps[text];
    std::sort(own.begin(), own.end(), [](auto &a, auto &b) {{ return a({n}) < b({n}); }});
    return std::regex_search(text, std::regex("x{n}[a-z]*y")) + own.front()({n});
}}
"""
    return heads + "".join(body.format(n=n) for n in range(count))


def cpp_compile(folder: Path, count: int) -> Workload | None:
    """Return the command of cc1plus itself, without the compiler driver."""
    if shutil.which("g++") is None:
        return None
    source, expanded = folder / "templates.cpp", folder / "templates.ii"
    source.write_text(templates(count))
    subprocess.run(["g++", "-E", source, "-o", expanded], check=True)
    asked = subprocess.run(
        ["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True, check=True
    )
    compiler = asked.stdout.strip()
    return Workload("cc1plus", (compiler, "-quiet", "-O2", str(expanded), "-o", "/dev/null"))


def workloads(folder: Path, *, quick: bool) -> list[Workload]:
    """Build and list the workloads; a tenth of the size when quick."""
    part = 10 if quick else 1
    churn = compile_c(SOURCES / "churn.c", folder / "churn")
    pairs = str(8_000_000 // part)

    def python(name: str, count: int) -> Workload:
        script = str(SOURCES / f"{name}.py")
        return Workload(name, (sys.executable, script, str(max(1, count // part))), python=True)

    compiled = cpp_compile(folder, 12 // part or 1)
    return [
        Workload("churn_1_thread", (churn, "1", pairs)),
        Workload("churn_2_threads", (churn, "2", pairs)),
        *([compiled] if compiled else []),
        python("objects", 300_000),
        python("json_round_trip", 60_000),
        python("arrays", 60),
        python("check_types", 3),
        python("highlight", 60),
    ]


def mematlas(
    *options: str, python: str = sys.executable
) -> Callable[[list[str], Workload, Path], list[str]]:
    """Run under `mematlas run OPTIONS`, of the mematlas that an interpreter imports."""
    front = [python, "-m", "mematlas", "run", *options, "-o"]
    return lambda measure, work, file: [*front, str(file), "--", *measure, *work.command]


def memray(*options: str) -> Callable[[list[str], Workload, Path], list[str]]:
    """Run under memray, which lives in the program's own process."""
    front = [sys.executable, "-m", "memray", "run", "-q", "-f", *options, "-o"]
    return lambda measure, work, file: [*measure, *front, str(file), *work.command[1:]]


def heaptrack_library() -> str | None:
    """Find heaptrack's preload library, or None."""
    program = shutil.which("heaptrack")
    if program is None:
        return None
    root = Path(program).resolve().parents[1]
    places = [root / "lib" / "heaptrack", *root.glob("lib/*/heaptrack")]
    found = (place / "libheaptrack_preload.so" for place in places)
    return next((str(path) for path in found if path.exists()), None)


def heaptrack(library: str) -> Callable[[list[str], Workload, Path], list[str]]:
    """Run with heaptrack's library preloaded into the workload alone; `feed` reads its FIFO."""

    def wrap(measure: list[str], work: Workload, file: Path) -> list[str]:
        variables = [f"LD_PRELOAD={library}", f"DUMP_HEAPTRACK_OUTPUT={file}.fifo"]
        return [*measure, "env", *variables, *work.command]

    return wrap


def modes(beside: Path | None = None) -> list[Mode]:
    """List the ways to run, bare first; peers that are not installed are left out.

    beside: another checkout of mematlas that scripts/setup has prepared, to compare two versions.
    """
    listed = [
        Mode("bare", lambda measure, work, _: [*measure, *work.command]),
        Mode("mematlas", mematlas()),
        Mode("mematlas --exact", mematlas("--exact")),
    ]
    if beside:
        python = str(beside / ".venv/bin/python")
        listed += [
            Mode("other", mematlas(python=python)),
            Mode("other --exact", mematlas("--exact", python=python)),
        ]
    library = heaptrack_library()
    if library:
        interpreter = str(Path(library).parent / "libexec" / "heaptrack_interpret")
        listed.append(Mode("heaptrack", heaptrack(library), feed=interpreter))
    if shutil.which("memray"):
        listed += [
            Mode("memray", memray(), python_only=True),
            Mode(
                "memray objects+native",
                memray("--native", "--trace-python-allocators"),
                python_only=True,
            ),
        ]
    return listed
