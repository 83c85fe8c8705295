"""`mematlas serve`: a recording over HTTP while it grows: metrics, heap profiles, the report."""
