"""Keeps objects of two types, and appends to FILE what their blocks hold: known_objects.py FILE."""

import json
import sys


class Slotted:
    __slots__ = ("first", "second", "third")


class Plain:
    pass


def keep(kind, count):
    return [kind() for _ in range(count)]


def keep_bytes(count):
    return [bytes(300) + bytes([number & 127]) for number in range(count)]


HELD = [keep(Slotted, 200_000), keep_bytes(40_000)]
truth = {
    "shape": "objects",
    "objects": {
        "Slotted": 200_000 * sys.getsizeof(HELD[0][0]),
        "bytes": 40_000 * sys.getsizeof(HELD[1][0]),
    },
}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(truth) + "\n")
