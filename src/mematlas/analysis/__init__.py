"""Pure functions from model to model."""
