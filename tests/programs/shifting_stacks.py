"""Allocates from short-lived frames, and prints Python's own view of each stack.

Frames are pushed where others just were, called from the same place in C, resumed from elsewhere, made
from code that is thrown away, by threads at a time: a tracer that takes a frame for the one that was there
before gives a wrong stack.
Each stack is printed as a JSON line: its functions and lines, leaf first, and the bytes it allocated.
"""

import functools
import json
import random
import sys
import threading
from collections import Counter

BLOCK = 150_000
stacks, counting = Counter(), threading.Lock()
chance = random.Random(11)


def note():
    """Count one block for the stack of the caller."""
    frame, seen = sys._getframe(1), []
    while frame is not None:
        seen.append((frame.f_code.co_qualname, frame.f_lineno))
        frame = frame.f_back
    with counting:
        stacks[tuple(seen)] += 1


def first():
    note(), bytearray(BLOCK)


def second():
    pad = chance.random()
    note(), bytearray(BLOCK)
    return pad


def third(depth=0):
    if depth:
        return third(depth - 1)
    if chance.random() < 0.5:
        note(), bytearray(BLOCK)
    else:
        note(), bytearray(BLOCK)


class Key:
    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        (first if self.value % 3 else second)()
        return self.value < other.value


def generator(name):
    for _ in range(50):
        note(), bytearray(BLOCK)
        yield name
        third(1)
        yield name


def through_generators():
    running = [generator("one"), generator("two")]
    for _ in range(20):
        next(chance.choice(running))
        next(running[0])
        third()
        next(running[1])


def through_c():
    for call in chance.choices([first, second, third], k=15):
        list(map(lambda it: it(), [call]))
        functools.reduce(lambda _, it: it(), [first, call], None)
    sorted(Key(n) for n in chance.sample(range(100), 8))


def made_anew():
    """Return function objects whose code is freed, so that its address is reused."""
    for n in range(20):
        names = {"note": note, "BLOCK": BLOCK}
        source = "\n" * n + "def made():\n    note(), bytearray(BLOCK)\n"
        exec(compile(source, "<made>", "exec"), names)
        names["made"]()


def even(depth):
    if depth:
        odd(depth - 1) if depth % 5 else even(depth - 1)
    first()


def odd(depth):
    second() if depth % 2 else first()
    if depth:
        even(depth - 1)


def deep(depth):
    if depth:
        return deep(depth - 1)
    first()
    second()


def everything():
    for _ in range(3):
        through_c()
        through_generators()
        made_anew()
        even(chance.randrange(12))
        third(chance.randrange(30))


if __name__ == "__main__":
    sys.setrecursionlimit(5000)
    everything()
    threads = [threading.Thread(target=everything) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deep(300)
    everything()
    for seen, count in stacks.items():
        print(json.dumps({"frames": seen, "bytes": count * BLOCK}))
