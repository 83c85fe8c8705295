"""`mematlas show`: the address space of a process."""
