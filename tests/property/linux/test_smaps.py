"""The smaps parser: right for any table the kernel can print, and robust against noise."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

import reference_smaps
from mematlas.linux import smaps

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mappings

names = st.binary(max_size=40).map(
    lambda name: b"/" + name.replace(b"\n", rb"\012") if name else b""
)
sizes = st.one_of(st.integers(0, 10**8 - 1), st.integers(0, 2**40))
fields = st.dictionaries(
    st.sampled_from(["Rss", "Pss", "Swap", "Private_Hugetlb", "NewerField"]),
    st.tuples(sizes, st.sampled_from(["", " kB"])),
    max_size=5,
)
flags = st.lists(st.sampled_from(["rd", "wr", "ex", "ht", "zz"]), unique=True)
rows = st.lists(st.tuples(st.integers(1, 2**20), names, fields, flags, st.booleans()), max_size=30)

if TYPE_CHECKING:
    Table = list[tuple[int, bytes, dict[str, tuple[int, str]], list[str], bool]]


def parse(text: bytes) -> Mappings:
    """Parse a text as smaps."""
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.flush()
        file.seek(0)
        return smaps.parse(file.fileno())


def render(table: Table) -> bytes:
    """Render a table as the kernel does, in address order; some rows with fields in any order and width."""
    at, text = 1 << 32, b""
    for pages, name, figures, letters, fixed in table:
        end = at + pages * 4096
        text += b"%x-%x r-xp 00001000 103:05 42 %s\n" % (at, end, b" " * 20 + name)
        for key, (size, unit) in sorted(figures.items()) if fixed else figures.items():
            text += f"{key + ':':<{16 if fixed else len(key) + 2}}{size:8d}{unit}\n".encode()
        text += b"VmFlags: " + b"".join(flag.encode() + b" " for flag in letters) + b"\n"
        at = end
    return text


@given(rows)
def test_any_table_as_the_twin_reads_it(table: Table) -> None:
    """Every row, name, field and flag equals the result of a simple parser."""
    text = render(table)
    found = [
        {
            "start": row.start,
            "end": row.end,
            "permissions": row.permissions.text(),
            "offset": row.offset,
            "device": row.device,
            "inode": row.inode,
            "name": row.name,
            "flags": row.flags,
            "fields": row.fields,
        }
        for row in parse(text)
    ]
    assert found == reference_smaps.parse(text)


@given(rows, st.binary(max_size=200), st.integers(0, 4000))
def test_nonsense_is_survived(table: Table, noise: bytes, at: int) -> None:
    """Noise or truncation anywhere gives rows or ignored lines; rows stay in order."""
    text = render(table)
    for broken in (text[:at] + noise + text[at:], text[:at]):
        mappings = parse(broken)
        starts = list(mappings.start)
        assert starts == sorted(starts)
