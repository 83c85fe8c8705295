"""The heap graph as text."""
