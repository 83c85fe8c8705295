"""The tracer never calls the functions it exports: only the traced program does."""

from __future__ import annotations

import platform
import re

from native_objects import ROOT, TRACER, exported, objects, references, versions_needed

# Attach writes addresses of hooks into the program's GOT: a table of them, which calls nothing.
ADDRESS_TABLES = {("attach.c", ".data.rel.ro.local"), ("attach.c", ".data.rel.ro")}
OLDEST_GLIBC = (2, 17)  # the first with aarch64, and that of manylinux2014
# Calls that may allocate or take a lock of the loader, which a hook inside malloc() must not.
FORBIDDEN = {
    *("dlopen", "dlsym", "dlvsym", "dladdr", "dladdr1", "dlinfo", "dlmopen", "dl_iterate_phdr"),
    *("pthread_getattr_np", "pthread_key_create", "pthread_setspecific", "pthread_mutex_lock"),
    *("strerror", "setenv", "putenv", "atexit", "__cxa_atexit", "fopen", "printf", "snprintf"),
    *("malloc", "calloc", "realloc", "free", "posix_memalign", "strdup", "opendir"),
}
ENTRY_POINTS = {"mematlas_attach", "mematlas_detach", "__asan_default_options"}
ROWS = (
    re.compile(r"\bHOOK\([^(),]+, (\w+),"),  # HOOK(result, name, ...
    re.compile(r"\bHOOK\((\w+), (?:PATCHED|PRELOADED)\)"),
    re.compile(r"\b(?:NEW|DELETE)\((\w+)\)"),
)


def test_no_function_refers_to_an_exported_hook() -> None:
    """No code or data of the tracer refers to a hook, the table of addresses apart."""
    hooks = exported(TRACER)
    assert {"malloc", "free", "mmap", "prctl", "mematlas_attach"} <= hooks
    found = [
        reference
        for path in objects(TRACER)
        for reference in references(path)
        if reference.symbol in hooks and (reference.file, reference.section) not in ADDRESS_TABLES
    ]
    assert not found


def test_the_library_exports_the_rows_of_the_hook_table() -> None:
    """Every row of hook_table.h is an exported function, and every other export an entry point."""
    table = (ROOT / "native/tracer/hook_table.h").read_text()
    macros = re.sub(r"/\*.*?\*/", "", table, flags=re.DOTALL)
    rows = {name for pattern in ROWS for name in pattern.findall(macros)}
    assert "malloc" in rows
    if platform.machine() != "x86_64":
        rows.discard("syscall")  # its hook is x86-64 assembly
    assert rows == exported(TRACER) - ENTRY_POINTS


def test_the_library_loads_into_old_c_libraries() -> None:
    """Every symbol that the tracer takes from elsewhere was there in glibc 2.17, with that version."""
    needed = versions_needed(TRACER)
    assert "memcpy" in needed
    glibc = {
        symbol: tuple(int(part) for part in version.removeprefix("GLIBC_").split("."))
        for symbol, version in needed.items()
    }
    assert not {symbol: version for symbol, version in glibc.items() if version > OLDEST_GLIBC}


def test_the_library_calls_nothing_that_allocates() -> None:
    """No function of the C library that may call malloc() or the loader is among those it needs."""
    assert not FORBIDDEN & (versions_needed(TRACER).keys() - exported(TRACER))
