"""The public functions and classes that need several rooms. Users import them from `mematlas`."""
