"""Contents of CPython's objects in an image: text, items of dicts and tuples, names of types and modules."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas._core.heap.python import PythonLayout
    from mematlas.heap.model.image import Image

HEAD = 16
TYPE_NAME, TYPE_BASIC_SIZE, TYPE_FLAGS, TYPE_BASE, TYPE_DICT = 24, 32, 168, 256, 264
HEAP_TYPE, INLINE_VALUES, MANAGED_DICT = 1 << 9, 1 << 2, 1 << 4
IS_INT, IS_LIST, IS_TUPLE, IS_BYTES, IS_STR, IS_DICT, IS_TYPE = (
    1 << bit for bit in (24, 25, 26, 27, 28, 29, 31)
)
_MOST_TEXT = 4096
_MOST_ITEMS = 1 << 26


class ObjectReader:
    """Reads objects by address. What is damaged reads as None, or as nothing."""

    def __init__(self, image: Image, layout: PythonLayout | None, head: int = HEAD) -> None:
        """Read an image whose interpreter has this layout; None: its version is not known, and text has no names.

        `head`: bytes of an object's head. Of objects with a longer one, only the names of types are read.
        """
        self.image = image
        self.layout = layout
        self._shift = head - HEAD
        # No caches of bound methods: those would keep the copy of a process until the next garbage collection.
        self._type_names: dict[int, str] = {}
        self._type_flags: dict[int, int] = {}

    def word(self, address: int) -> int:
        """Return the word at an address; 0 where the image has none."""
        return self.image.read_word(address) or 0

    def type_of(self, address: int) -> int:
        """Return the address of an object's type."""
        return self.word(address + 8)

    def flags(self, type_address: int) -> int:
        """Return tp_flags of a type."""
        found = self._type_flags.get(type_address)
        if found is None:
            found = self.word(type_address + self._shift + TYPE_FLAGS)
            self._type_flags[type_address] = found
        return found

    def text(self, address: int) -> str | None:
        """Return the value of a str object, cut at some thousand characters."""
        layout = self.layout
        if layout is None or not self.flags(self.type_of(address)) & IS_STR:
            return None
        length, state = self.word(address + HEAD), self.word(address + 32)
        width = state >> 2 & 7
        if not state & 0x20 or width not in (1, 2, 4):
            return None
        start = address + (layout.string_data if state & 0x40 else layout.string_wide_data)
        data = self.image.read(start, min(length, _MOST_TEXT) * width)
        codec = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width]
        return None if data is None else data.decode(codec, "replace")

    def integer(self, address: int) -> int | None:
        """Return the value of an int of at most two digits."""
        layout = self.layout
        if layout is None or not self.flags(self.type_of(address)) & IS_INT:
            return None
        size = self.word(address + HEAD)
        if layout.version >= 12:
            digits, sign = size >> 3, {0: 1, 2: -1}.get(size & 3, 0)
        else:
            signed = size - (1 << 64) if size >> 63 else size
            digits, sign = abs(signed), -1 if signed < 0 else 1
        if digits > 2:
            return None
        low, high = (self.word(address + 24) >> shift & 0xFFFFFFFF for shift in (0, 32))
        return sign * (low + (high << 30 if digits == 2 else 0)) if digits else 0

    def label(self, address: int) -> str | None:
        """Return how a program writes a key: 'text', 42. None: the key has no short form."""
        text = self.text(address)
        if text is not None:
            return repr(text if len(text) <= 40 else text[:37] + "...")
        number = self.integer(address)
        return None if number is None else str(number)

    def items(self, address: int) -> Iterator[tuple[int, int]]:
        """Yield the addresses of keys and values of a dict."""
        keys, values = self.word(address + 32), self.word(address + 40)
        head = self.image.read(keys, 32)
        if head is None or self.layout is None:
            return
        kind, count = head[10], int.from_bytes(head[24:32], "little")
        if kind > 2 or head[9] > 40 or count > _MOST_ITEMS:
            return
        size = 16 if kind else 24
        data = self.image.read(keys + 32 + (1 << head[9]), count * size)
        if data is None:
            return
        rows = struct.iter_unpack("<QQ" if kind else "<8xQQ", data)
        if not values:
            yield from ((key, value) for key, value in rows if key and value)
            return
        yield from self._values([key for key, _ in rows], values)

    def _values(self, keys: list[int], values: int) -> Iterator[tuple[int, int]]:
        offset = self.layout.values_items if self.layout else 0
        for index, key in enumerate(keys):
            value = self.word(values + offset + index * 8)
            if key and value:
                yield key, value

    def entries(self, address: int) -> list[tuple[int, int, int]]:
        """Return key, value and address of the value's word of each entry of a dict.

        The values of a dict that shares its keys with a class stand elsewhere: it has no entries here.
        """
        keys = self.word(address + 32)
        head = self.image.read(keys, 32)
        if head is None or self.word(address + 40) or head[9] > 40 or head[10] > 2:
            return []
        size, count = (16 if head[10] else 24), int.from_bytes(head[24:32], "little")
        start = keys + 32 + (1 << head[9])
        data = self.image.read(start, count * size) if count <= _MOST_ITEMS else None
        if data is None:
            return []
        rows = struct.iter_unpack("<QQ" if head[10] else "<8xQQ", data)
        return [
            (key, value, start + index * size + size - 8)
            for index, (key, value) in enumerate(rows)
            if key and value
        ]

    def count(self, address: int) -> int | None:
        """Return the number of items of a container or string. None: it is none of those."""
        flags = self.flags(self.type_of(address))
        if flags & (IS_DICT | IS_LIST | IS_TUPLE | IS_STR | IS_BYTES):
            return self.word(address + HEAD)
        if self.base_name(self.type_of(address)) in ("set", "frozenset"):
            return self.word(address + 24)
        if self.base_name(self.type_of(address)) == "collections.deque":
            return self.word(address + HEAD)
        return None

    def base_name(self, type_address: int) -> str:
        """Return the name of the nearest base that is a type of C and not `object`; the type itself counts."""
        seen = type_address
        for _ in range(32):
            name = self.image.read_text(self.word(seen + TYPE_NAME), 256) or ""
            if not self.flags(seen) & HEAP_TYPE or name == "collections.deque":
                return name
            seen = self.word(seen + TYPE_BASE)
        return ""

    def find(self, dict_address: int, name: str) -> int | None:
        """Return the address of the value that a dict has for a text."""
        return next((v for k, v in self.items(dict_address) if self.text(k) == name), None)

    def type_name(self, type_address: int) -> str:
        """Return the name of a type, with its module where that is known."""
        found = self._type_names.get(type_address)
        if found is None:
            found = self._type_names[type_address] = self._read_type_name(type_address)
        return found

    def _read_type_name(self, type_address: int) -> str:
        name_at = self.word(type_address + self._shift + TYPE_NAME)
        short = self.image.read_text(name_at, 256) or "?"
        if not self.flags(type_address) & HEAP_TYPE or self.layout is None:
            return short
        name = self.text(self.word(type_address + self.layout.cached_keys - 8)) or short
        module = self.find(self.word(type_address + TYPE_DICT), "__module__")
        text = self.text(module) if module else None
        if not text or text == "builtins" or "." in short:
            return short if "." in short else name
        return f"{text}.{name}"

    def instance_items(self, address: int) -> Iterator[tuple[int, int]]:
        """Yield names and values of an instance's attributes: those in a dict, and those that stand for one."""
        type_address = self.type_of(address)
        flags, layout = self.flags(type_address), self.layout
        if layout is None or not flags & MANAGED_DICT:
            return
        word = self.word(address - 24)
        if word and not word & 1:
            yield from self.items(word)
        values = {11: self.word(address - 32), 12: word + 1 if word & 1 else 0}.get(
            layout.version, 0
        )
        if layout.version >= 13 and flags & INLINE_VALUES:
            inline = address + self.word(type_address + TYPE_BASIC_SIZE)
            head = self.image.read(inline, 4)
            values = inline if head and head[3] else 0
        if values:
            yield from self._values(self._shared_names(type_address), values)

    def _shared_names(self, type_address: int) -> list[int]:
        keys = self.word(type_address + (self.layout.cached_keys if self.layout else 0))
        head = self.image.read(keys, 32)
        if head is None or head[9] > 40:
            return []
        count = int.from_bytes(head[24:32], "little")
        data = self.image.read(keys + 32 + (1 << head[9]), min(count, 1024) * 16)
        return [key for key, _ in struct.iter_unpack("<QQ", data)] if data else []

    def slots(self, type_address: int) -> dict[int, str]:
        """Return names by offset of a class's slots and of the members that a type of C tells of."""
        found: dict[int, str] = {}
        for _ in range(32):
            members = self.word(type_address + 240)
            for index in range(256 if members else 0):
                name = self.image.read_text(self.word(members + index * 40), 256)
                if not name:
                    break
                found.setdefault(self.word(members + index * 40 + 16), name)
            type_address = self.word(type_address + TYPE_BASE)
            if not type_address:
                break
        return found

    def tuple_items(self, address: int) -> list[int]:
        """Return the addresses of a tuple's items."""
        count = min(self.word(address + HEAD), 1 << 20)
        start = address + self._tuple_items_offset(self.type_of(address))
        data = self.image.read(start, count * 8)
        return list(struct.unpack(f"<{count}Q", data)) if data else []

    def _tuple_items_offset(self, type_address: int) -> int:
        while self.flags(type_address) & HEAP_TYPE:
            type_address = self.word(type_address + TYPE_BASE)
        return self.word(type_address + TYPE_BASIC_SIZE)
