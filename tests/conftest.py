"""Puts this directory on the import path, for the modules tests share."""
