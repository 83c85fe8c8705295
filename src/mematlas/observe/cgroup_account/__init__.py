"""The account of a memory cgroup: what its charged memory is, by process, file and kind of kernel memory."""
