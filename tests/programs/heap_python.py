"""A Python program that knows what it holds, and who.

Writes counts and bytes of each type and of its own trees as JSON to the file named first, prints its PID and waits.
"""

import asyncio
import ctypes
import functools
import gc
import json
import os
import sys
import threading
import traceback  # 3.15 imports what it needs when it first needs it
from collections import deque

ORDERS, CYCLES, LEAKED, TASKS = 3000, 200, 150, 100


class Order:
    """An entry of the cache."""

    def __init__(self, number):
        self.number = number + 10**6
        self.name = "order-%d" % number
        self.lines = [number + 2 * 10**6, "line %d" % number, None]


class Slot:
    """Attributes without a dict."""

    __slots__ = ("first", "second")

    def __init__(self, number):
        self.first = number + 3 * 10**6
        self.second = (number + 4 * 10**6, "slot %d" % number)


class Node:
    """Half of a cycle."""


class Registry:
    """A class that holds memory itself."""

    entries = {}


CACHE = {"key-%d" % number: Order(number) for number in range(ORDERS)}
SLOTS = [Slot(number) for number in range(1000)]
QUEUE = deque(Slot(number) for number in range(500))
Registry.entries = {number + 5 * 10**6: "entry %d" % number for number in range(500)}


@functools.lru_cache(maxsize=None)
def remembered(number):
    """Keep each result."""
    return [number + 6 * 10**6] * 20


def capture():
    """Return a function whose traceback holds a frame, and with it a list."""
    held = ["held %d" % number for number in range(400)]
    try:
        raise ValueError(len(held))
    except ValueError as error:
        kept = error
    return lambda: kept


CLOSURE = capture()
for one in range(300):
    remembered(one)


def leak():
    """Make what only the collector can free, and what nobody can."""
    gc.disable()
    for number in range(CYCLES):
        node, other = Node(), Node()
        node.other, other.other = other, node
        node.payload = ["cycle %d" % number]
    for number in range(LEAKED):
        lost = {"leaked": number + 7 * 10**6}
        ctypes.pythonapi.Py_IncRef(
            ctypes.py_object(lost)
        )  # as an extension that forgets a Py_DECREF()
    del lost, node, other


def serve(ready):
    """Hold a batch in a local variable while waiting."""
    batch = [Slot(number + 9000) for number in range(800)]
    ready.set()
    FOREVER.wait()
    return batch


FOREVER = threading.Event()
READY = threading.Event()
WORKER = threading.Thread(target=serve, args=(READY,), name="billing", daemon=True)
WORKER.start()
READY.wait()


async def forgotten(number):
    """Wait for ever with something in hand."""
    body = ["request %d" % number] * 10
    await asyncio.get_running_loop().create_future()
    return body


async def start():
    """Start tasks that nobody ends."""
    PENDING.extend(asyncio.ensure_future(forgotten(number)) for number in range(TASKS))
    await asyncio.sleep(0)


PENDING = []
LOOP = asyncio.new_event_loop()
LOOP.run_until_complete(start())


def size(thing):
    """Return the bytes of an object's block and of what the object alone owns beside it, as the interpreter tells."""
    return sys.getsizeof(thing)


def tree():
    """Return bytes of the cache by its own tree: the dict, keys, orders, their attributes and lists.

    The attributes' storage is left to the reader: no function of Python tells its bytes.
    """
    total = size(CACHE)
    for key, order in CACHE.items():
        total += size(key) + size(order) + size(order.number) + size(order.name) + size(order.lines)
        total += size(order.lines[0]) + size(order.lines[1])
    return total


def count():
    """Return number and bytes of all objects the collector knows, by the address of their type."""
    counts = {}
    objects = gc.get_objects()
    for thing in objects:
        if thing is objects or thing is counts:
            continue
        kind = type(thing)
        row = counts.setdefault(id(kind), [kind.__name__, 0, 0])
        row[1] += 1
        if kind.__name__ != "lazy_import":  # asking one imports it
            row[2] += object.__sizeof__(thing) if kind is not type else 0
    return counts


json.dumps({"warm": [1, "2", {}]})
FILE = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
gc.collect()
leak()
for _ in range(8):
    result = count()
# The encoder of C leaves nothing behind, json.dump() would.
os.write(FILE, json.dumps({"counts": result, "cache": tree()}).encode())
print(os.getpid(), flush=True)
sys.stdin.readline()
