"""Options are literal types: the type checker refuses a typing error, and the function does too.

mypy reports an unused `type: ignore`, so each of these lines fails the check if its type becomes a str.
"""

from __future__ import annotations

from typing import get_args

import pytest

from mematlas.bench import BenchSettings
from mematlas.bench.region import parse_kinds
from mematlas.errors import UsageError
from mematlas.linux.hugepages import PageName, parse_kind
from mematlas.linux.mman import Advice
from mematlas.memory import AdviceName, Arena, PolicyName, Region, advise, mempolicy, numpy
from mematlas.memory.numa import POLICIES


def test_wrong_options_of_a_region() -> None:
    """Each option is checked before anything is mapped."""
    with pytest.raises(UsageError, match="no such page size"):
        Region("4K", huge="3M")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such page size"):
        Region("4K", fallback=["5K"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="no such policy"):
        Region("4K", policy="nearby")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such fork behaviour"):
        Region("4K", fork="share")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="lock is True, False or 'onfault'"):
        Region("4K", lock="later")  # type: ignore[arg-type]


def test_wrong_options_of_others() -> None:
    """Arrays, arenas, policies, advice and benchmarks take the same types."""
    with pytest.raises(UsageError, match="no such pages for arrays"):
        numpy(huge="1G")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="huge pages are transparent"):
        Arena("1M", huge="2M")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such policy"), mempolicy("best"):  # type: ignore[arg-type]
        pass
    with pytest.raises(UsageError, match="no such advice"):
        advise(bytearray(100_000), "soon")  # type: ignore[arg-type]
    settings = BenchSettings(pages=("9K",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such page size"):
        parse_kinds(settings.pages)


def test_names_are_those_of_the_kernel() -> None:
    """The literal types list every advice, every policy, and page sizes that can be parsed."""
    assert get_args(AdviceName) == tuple(each.name.lower() for each in Advice)
    assert set(get_args(PolicyName)) == set(POLICIES)
    for name in get_args(PageName):
        try:
            assert parse_kind(name).name == name
        except UsageError:  # smaller than the base page of this machine
            assert name in ("4K", "16K", "32K")
