"""Memory settings of a program, applied before exec."""
