"""Recordings on disk: written chunk by chunk during a run, readable up to the last whole chunk."""
