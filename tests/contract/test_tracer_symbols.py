"""The tracer never calls the functions it exports: only the traced program does."""

from __future__ import annotations

from native_objects import TRACER, exported, objects, references

# The table of hooks that attach writes into the program's GOT takes addresses and calls nothing.
ADDRESS_TABLES = {("patch.c", ".data.rel.ro.local"), ("patch.c", ".data.rel.ro")}


def test_no_function_refers_to_an_exported_hook() -> None:
    """No code or data of the tracer refers to a hook, the table of hooks apart."""
    hooks = exported(TRACER)
    assert {"malloc", "free", "mmap", "syscall", "prctl", "mematlas_attach"} <= hooks
    found = [
        reference
        for path in objects(TRACER)
        for reference in references(path)
        if reference.symbol in hooks and (reference.file, reference.section) not in ADDRESS_TABLES
    ]
    assert not found
