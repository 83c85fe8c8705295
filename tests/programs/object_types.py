"""Keeps objects of many types, prints the counts of its own classes, and ends."""

import gc
import json
from abc import ABC
from collections import Counter


class Plain:
    def __init__(self, number):
        self.number = number + 1000


class Slots:
    __slots__ = ("first", "second")

    def __init__(self, number):
        self.first, self.second = number, None


class Abstract(ABC):
    """A class whose metaclass is not `type`."""

    def __init__(self, number):
        pass


class Text(str):
    __slots__ = ()


class Numbers(list):
    def __init__(self, number):
        super().__init__()


def make(kind, count):
    return [kind(number) for number in range(count)]


def make_floats():
    return [number + 0.5 for number in range(30_000)]


def make_bytes():
    return [bytes(4000) for _ in range(500)]


class Gone:
    def __init__(self, number):
        pass


kept = [
    make(Plain, 4000),
    make(Slots, 6000),
    make(Abstract, 2000),
    make(Text, 3000),
    make(Numbers, 1000),
    make_floats(),
    make_bytes(),
    [type(f"Made{number}", (), {}) for number in range(5)],
]
gone = make(Gone, 5000)
del gone
counts = Counter(type(each).__name__ for each in gc.get_objects())
counts |= {"Slots": 6000, "Text": 3000}  # not tracked by the garbage collector
print(
    json.dumps({name: counts[name] for name in ("Plain", "Slots", "Abstract", "Text", "Numbers")})
)
