"""Names of symbols, and modules that have no symbol table."""

from __future__ import annotations

import lzma
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import elf, symbols
from mematlas.recording.model import Frame, Module
from mematlas.recording.symbols import demangle, open_table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lookup tables of the tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_vdso_is_named(tmp_path: Path) -> None:
    """The vDSO has a name without a file."""
    table = open_table(Module("linux-vdso.so.1", "", 0, 0, 4096))
    assert table.frames(0x890)[0] == Frame("[vdso]+0x890", None, None, "[vdso]", "native")
    assert not table.note


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("main", "main"),
        ("_ZN4shop4takeEm", "shop::take"),
        ("_ZN4shop4takeEm.cold", "shop::take"),
        ("_ZN4shop4takeEm.constprop.0.isra.1", "shop::take"),
        ("parse.part.3", "parse"),
        ("__GI___getdelim", "__getdelim"),
        ("__libc_start_main_alias_2", "__libc_start_main"),
        ("_Znwm", "operator new"),
        (
            "_ZN4shop4CartINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEE3addES6_",
            "shop::Cart<std::string>::add",
        ),
        ("_ZN1r5store13Cart$LT$T$GT$3add17hfbdf5f536a3f63a4E", "r::store::Cart<T>::add"),
        ("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
        ("_Z", "_Z"),
        (
            "__pyx_pw_7pyarrow_3lib_12TableGroupBy_3aggregate",
            "pyarrow.lib.TableGroupBy.aggregate",
        ),
        ("__pyx_pw_5mymod_4Tree_3get_value", "mymod.Tree.get_value"),
        ("__pyx_pw_5mymod_5apply_all", "mymod.apply_all"),
        ("__pyx_pw_5mymod_4Tree_13insert_values_x", "mymod.Tree.insert_values_x"),
        (f"__pyx_pw_{'9' * 5000}_x", f"__pyx_pw_{'9' * 5000}_x"),
        ("__pyx_f_7pyarrow_3lib_check_status", "pyarrow.lib.check_status"),
        ("__pyx_pf_9made_up", "__pyx_pf_9made_up"),
        ("F6576616c2d627566666572_eval_buffer_0", "eval-buffer"),
        ("Fadd_history_1", "Fadd_history_1"),
        ("Fbeef_cow_1", "Fbeef_cow_1"),
    ],
)
def test_names_are_as_in_the_source(mangled: str, name: str) -> None:
    """C++ and Rust names are demangled, without parameters, hashes and clone suffixes."""
    assert demangle(mangled) == name


def test_a_file_that_is_no_elf_has_no_symbols(tmp_path: Path) -> None:
    """No path raises."""
    for number, data in enumerate((b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 200)):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert elf.read(path) is None
        table = open_table(Module(str(path), "", 0, 0, 4096))
        assert table.frames(0x10)[0].function == f"{number}+0x10"


def test_a_compressed_bomb_is_not_unpacked() -> None:
    """A .gnu_debugdata that unpacks to more than its limit gives no symbols."""
    packed = lzma.compress(bytes(symbols.MINI_DEBUG_BYTES + 1), preset=0)
    assert len(packed) < 1 << 20
    tracemalloc.start()
    try:
        assert symbols._open_mini_debug(packed) == []
        assert tracemalloc.get_traced_memory()[1] < 3 * symbols.MINI_DEBUG_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", ["/usr/lib/a\0b", "/usr/lib/\ud800"])
def test_a_name_that_no_file_has(path: str) -> None:
    """Functions of a module whose path is malformed are shown as module+offset, and a note says so."""
    table = open_table(Module(path, "ab12", 0, 0, 4096))
    assert table.frames(0x890)[0].module == path
    assert "functions are shown as module+offset" in table.note


def test_a_loop_of_links_has_no_debug_file(tmp_path: Path) -> None:
    """The path is whatever the mappings of another process say."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    headers = elf.Elf("ab" * 20, 0, ("x.debug", 0), has_debug=False, mini_debug=b"", thread_local=0)
    assert symbols.find_installed(loop / "x", headers, headers.build_id) is None
