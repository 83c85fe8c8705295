"""The HTML page that all reports are built on."""
