"""Functions and lines of real runs: inlined, stripped, deleted and rebuilt programs."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.recording import format as atlas
from traced_runs import ask, trace

if TYPE_CHECKING:
    from pathlib import Path


CPLUSPLUS = """#include <cstdio>
#include <string>
#include <vector>
namespace shop {
struct Cart {
	std::vector<std::string> lines;
	inline void add(int i) { lines.push_back(std::string(5000, 'a' + i % 26)); }
};
}
int main()
{
	shop::Cart *cart = new shop::Cart;
	for (int i = 0; i < 100; i++)
		cart->add(i);
	std::printf("%zu\\n", cart->lines.size());
	return 0;
}
"""
RUST = """mod shop {
    #[inline(never)]
    pub fn fill(count: usize) -> Vec<String> {
        (0..count).map(|i| "x".repeat(5000 + i % 2)).collect()
    }
}
fn main() {
    let kept = shop::fill(100);
    println!("{}", kept.len());
    std::mem::forget(kept);
}
"""


def build(folder: Path, compiler: str, name: str, source: str, *flags: str) -> Path:
    """Build a program with debug information, or skip."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    file = folder / name
    file.write_text(source)
    program = file.with_suffix("")
    subprocess.run([compiler, "-g", *flags, str(file), "-o", str(program)], check=True, cwd=folder)
    return program


def heaviest(file: Path) -> dict[str, Any]:
    """Return the stack that allocated most, without the C++ runtime's emergency pool."""
    stacks = ask("report", str(file), "--json", "--by", "allocated")["stacks"]
    own = [stack for stack in stacks if stack["allocated_bytes"] >= 300_000]
    found: dict[str, Any] = own[0]
    return found


def test_inlined_functions_of_cplusplus(tmp_path: Path) -> None:
    """A method inlined into main is a frame of its own, with its line."""
    program = build(tmp_path, "g++", "shop.cpp", CPLUSPLUS, "-O2")
    run = trace(tmp_path / "a.atlas", [program], "--exact")
    frames = {frame["function"]: frame for frame in heaviest(run.file)["frames"]}
    assert frames["shop::Cart::add"]["kind"] == "inlined"
    assert frames["shop::Cart::add"]["line"] == 7
    assert frames["main"]["file"] == str(tmp_path / "shop.cpp")
    assert frames["main"]["line"] == 14


def test_functions_of_rust(tmp_path: Path) -> None:
    """Rust names are complete and without hashes, also of inlined library functions."""
    program = build(tmp_path, "rustc", "shop.rs", RUST, "-O")
    run = trace(tmp_path / "a.atlas", [program], "--exact")
    stacks = ask("report", str(run.file), "--json", "--by", "peak")["stacks"]
    frames = {frame["function"]: frame for frame in stacks[0]["frames"]}
    fill = frames["shop::shop::fill"]
    assert fill["file"].endswith("shop.rs")
    assert fill["line"] == 4
    assert any(name.startswith(("<alloc::", "alloc::")) for name in frames)
    assert sum(stack["peak_bytes"] for stack in stacks) >= 100 * 5000


def test_a_stripped_program_shows_offsets(tmp_path: Path) -> None:
    """Without symbols frames are program+offset; those of libraries keep their names."""
    program = build(tmp_path, "g++", "shop.cpp", CPLUSPLUS, "-O2", "-s")
    run = trace(tmp_path / "a.atlas", [program], "--exact")
    names = [frame["function"] for frame in heaviest(run.file)["frames"]]
    assert any(name.startswith("shop+0x") for name in names)
    assert "operator new" in names
    assert "main" not in names


def test_names_of_a_run_that_was_cut(tmp_path: Path) -> None:
    """A recording cut before its frames is resolved later, only with the same build."""
    program = build(tmp_path, "g++", "shop.cpp", CPLUSPLUS, "-O2")
    run = trace(tmp_path / "a.atlas", [program], "--exact")
    whole = heaviest(run.file)
    content = run.file.read_bytes()
    run.file.write_bytes(content[: content.index(atlas.FRAMES)])
    assert heaviest(run.file)["frames"] == whole["frames"]
    build(tmp_path, "g++", "shop.cpp", CPLUSPLUS, "-O1")
    data = ask("report", str(run.file), "--json")
    assert any("rebuilt since it was loaded" in note for note in data["notes"])
    assert "main" not in [frame["function"] for frame in heaviest(run.file)["frames"]]
    program.unlink()
    data = ask("report", str(run.file), "--json")
    assert any("No such file or directory" in note for note in data["notes"])
