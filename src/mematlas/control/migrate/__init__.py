"""Migration of the pages of a process to a node."""
