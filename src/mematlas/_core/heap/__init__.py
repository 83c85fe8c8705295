"""Live blocks in a copy of a process's memory, and the graph of pointers between them."""
