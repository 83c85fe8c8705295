"""`mematlas faults`: page faults by thread, mapping and line."""
