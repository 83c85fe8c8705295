"""Set and read back keys of a memcached server."""

import socket
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
    stream = link.makefile("rwb")
    good = 0
    for number in range(count):
        value = b"x" * (number % 900 + 1)
        stream.write(b"set key%d 0 0 %d\r\n%s\r\n" % (number, len(value), value))
        stream.flush()
        good += stream.readline() == b"STORED\r\n"
print(good)
