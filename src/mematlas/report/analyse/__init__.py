"""Pure functions from a recording to the model of a report."""
