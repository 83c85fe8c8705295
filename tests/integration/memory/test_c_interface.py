"""The installed header and library work for C and C++ programs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mematlas.memory import compile_flags

PROGRAM = """
#include <mematlas.h>
#include <stdio.h>
int main(void)
{
	struct mematlas_pool *pool;
	struct mematlas_arena *arena;
	if (mematlas_pool_create(64, 1000, 64, -1, &pool) || mematlas_arena_create(1 << 26, &arena))
		return 1;
	void *slot = mematlas_pool_alloc(pool), *block = mematlas_arena_alloc(arena, 100, 0);
	printf("%d %d ", mematlas_pool_free(pool, slot), mematlas_arena_free(arena, block));
	printf("%d %d ", mematlas_pool_free(pool, slot) < 0, mematlas_arena_free(arena, block) < 0);
	printf("%d %d\\n", mematlas_pool_check(pool), mematlas_arena_check(arena));
	mematlas_pool_destroy(pool);
	mematlas_arena_destroy(arena);
	return 0;
}
"""

# Names of functions inside the library.
NAMESAKES = """
#include <mematlas.h>
#include <stdio.h>
int arena_join(int a) { return a + 1; }
int trie_add(int a) { return a + 2; }
int record_take(int a) { return a + 3; }
int place_of(int a) { return a + 4; }
int stack_trie_add(int a) { return a + 5; }
int record_apply(int a) { return a + 6; }
int page_bytes(int a) { return a + 7; }
int main(void)
{
	struct mematlas_arena *arena;
	if (mematlas_arena_create(1 << 26, &arena))
		return 1;
	int sum = arena_join(trie_add(record_take(place_of(0))));
	sum = stack_trie_add(record_apply(page_bytes(sum)));
	printf("%d %d\\n", sum, mematlas_arena_check(arena));
	mematlas_arena_destroy(arena);
	return 0;
}
"""


@pytest.mark.parametrize(("compiler", "suffix"), [("gcc", "c"), ("g++", "cpp")])
def test_programs_link(compiler: str, suffix: str, tmp_path: Path) -> None:
    """A small program compiles without warnings, links, and prints the documented results."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    source, program = tmp_path / f"program.{suffix}", tmp_path / "program"
    source.write_text(PROGRAM)
    flags = ["-Wall", "-Wextra", "-Werror", *compile_flags()]
    subprocess.run([compiler, source, "-o", program, *flags], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 0 1 1 0 0\n"


def test_pkg_config_knows_the_flags(tmp_path: Path) -> None:
    """The mematlas.pc of the build, moved with its package as a wheel is, links the same program."""
    if not shutil.which("gcc") or not shutil.which("pkg-config"):
        pytest.skip("no gcc or no pkg-config")
    include, library, *_ = (flag.removeprefix("-I") for flag in compile_flags())
    package = tmp_path / "a folder" / "mematlas"
    shutil.copytree(include, package / "include")
    shutil.copy(library, package)
    built = Path(library).parent / "mematlas.pc"
    (package / "pkgconfig").mkdir()
    shutil.copy(built, package / "pkgconfig")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "mematlas"],
        env={**os.environ, "PKG_CONFIG_PATH": str(package / "pkgconfig")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", source, "-o", program, *shlex.split(flags)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 0 1 1 0 0\n"


def test_programs_have_names_of_their_own(tmp_path: Path) -> None:
    """A program links that defines functions named like internal ones of the library."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(NAMESAKES)
    subprocess.run(["gcc", source, "-o", program, *compile_flags()], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "28 0\n"


def test_globals_are_prefixed() -> None:
    """The installed library defines no global symbol without the prefix mematlas_."""
    if not shutil.which("nm"):
        pytest.skip("no nm")
    library = next(flag for flag in compile_flags() if flag.endswith(".a"))
    done = subprocess.run(
        ["nm", "-g", "--defined-only", library], capture_output=True, text=True, check=True
    )
    names = [line.split()[-1] for line in done.stdout.splitlines() if len(line.split()) == 3]
    assert "mematlas_arena_create" in names
    assert [name for name in names if not name.startswith("mematlas_")] == []
