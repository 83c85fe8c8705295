"""`mematlas faults`: page faults by thread, mapping and line."""

PERIOD = 7  # minor faults to one sample; prime, so that no loop of the program runs in step with it
