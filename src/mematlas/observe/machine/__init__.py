"""`mematlas system`: the memory of the machine, by topic."""
