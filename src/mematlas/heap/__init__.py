"""The heap graph of a process: live blocks, the pointers between them, and what keeps them alive."""
