"""Models of reports. No input or output here."""
