"""`mematlas wss`: the memory a process uses during a time."""
