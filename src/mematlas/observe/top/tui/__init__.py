"""The terminal user interface of `mematlas top`. Needs Textual; nothing else imports this package."""
