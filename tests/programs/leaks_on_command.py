"""Holds 8 MiB from steady(), reads a number, and then allocates without end in the function of that number."""

held = []


def steady():
    held.append(bytearray(b"x") * (8 << 20))


def leak_0():
    held.append(bytearray(b"x") * 40000)


def leak_1():
    held.append([*range(5000)])


def leak_2():
    held.append(("a" * 40000) + "b" * len(held))


def leak_3():
    held.append(dict(enumerate(map(str, range(500)))))


def leak_4():
    held.append(bytes(50000).replace(b"\0", b"\1"))


print("ready", flush=True)
leak = globals()[f"leak_{int(input())}"]
steady()
while True:
    leak()
