"""What all views share: tables, charts, colours, JSON and the HTML page."""
