"""`mematlas where`: one address of a process."""
