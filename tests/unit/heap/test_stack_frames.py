"""How the functions of stacks are shown."""

from __future__ import annotations

import pytest

from mematlas.heap.read.stack_frames import function_name


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        ("main", "main()"),
        ("_ZN4shop5serveEi", "shop::serve()"),
        ("_ZN12_GLOBAL__N_15serveEi", "(anonymous namespace)::serve()"),
        ("_ZN3app12_GLOBAL__N_16Server3runEv", "app::(anonymous namespace)::Server::run()"),
        ("_ZZ4mainENKUliE0_clEi", "main::{lambda(int)#2}::operator()()"),
        ("_ZNK3foocvbEv", "foo::operator bool()"),
    ],
)
def test_functions_keep_their_whole_name(symbol: str, shown: str) -> None:
    """Parentheses in a name are not those of its parameters."""
    assert function_name(symbol) == shown
