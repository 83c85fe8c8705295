"""Shared by all views: tables, charts, colours, JSON, HTML pages."""
