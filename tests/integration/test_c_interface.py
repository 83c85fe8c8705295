"""The header and library that are installed serve C and C++ programs."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from mematlas.memory import compile_flags

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(("compiler", "suffix"), [("gcc", "c"), ("g++", "cpp")])
def test_programs_link(compiler: str, suffix: str, tmp_path: Path) -> None:
    """A program of ten lines compiles without a warning, links, and does what the manual says."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    source, program = tmp_path / f"program.{suffix}", tmp_path / "program"
    source.write_text(PROGRAM)
    flags = ["-Wall", "-Wextra", "-Werror", *compile_flags()]
    subprocess.run([compiler, source, "-o", program, *flags], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 0 1 1 0 0\n"
