"""Memory settings of a program, set before exec."""
