"""What the kernel says of processes, files and the machine. One package per view."""
