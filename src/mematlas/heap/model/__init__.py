"""What a look at a heap holds: the copied memory, blocks, roots, findings, answers."""
