"""Calls functions that another thread creates, each at the address of the one before, and discards.

The calling thread allocates nowhere else: the frame, its instruction and its caller are those of the
call before, and so is the code's address, mostly. Prints what each function allocated, by its name, and
how many had the address of the one before.
"""

import json
import marshal
import threading
import types

BLOCK, CALLS = 150_000, 60
NAMES = [f"made_{n:04}" for n in range(CALLS)]


def code_of(name):
    """Return a function that allocates, as marshalled code."""
    scope = {}
    exec(f"def {name}(): bytearray({BLOCK})", scope)
    return marshal.dumps(scope[name].__code__)


written = [code_of(name) for name in NAMES]
current, turn, again = None, 0, 0


def make():
    """Replace the function when it has been called; the old code is freed first."""
    global current, turn, again
    last = 0
    for each in written:
        while turn % 2:
            pass
        current = None
        code = marshal.loads(each)
        again += last == id(code)
        last = id(code)
        current = types.FunctionType(code, {"bytearray": bytearray})
        del code
        turn += 1


maker = threading.Thread(target=make)
maker.start()
for _ in range(CALLS):
    while turn % 2 == 0:
        pass
    current()
    turn += 1
maker.join()
print(json.dumps({"again": again, "bytes": dict.fromkeys(NAMES, BLOCK)}))
