"""`mematlas probe`: which kernel interfaces are readable."""
