"""`mematlas top`: processes over time."""
