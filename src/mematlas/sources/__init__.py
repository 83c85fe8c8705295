"""One module per kernel interface, named like it; each reads and returns a model."""
