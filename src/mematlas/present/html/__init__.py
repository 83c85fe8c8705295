"""The HTML page that all HTML views use."""
