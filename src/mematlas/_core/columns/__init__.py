"""Pure computing on columns: tries of stacks, sums of rows, packing. No access to the kernel."""
