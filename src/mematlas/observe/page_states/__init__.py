"""`mematlas pages`: the pages of a process by state."""
