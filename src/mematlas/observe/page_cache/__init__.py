"""`mematlas cache`: the page cache of files."""
