"""What mematlas knows, as frozen dataclasses and columns. No input or output here."""
