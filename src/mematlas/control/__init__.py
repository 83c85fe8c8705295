"""Changes to a program before exec, and to the machine with undo."""
