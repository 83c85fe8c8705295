"""Programs with a known truth, and how often the words of mematlas about them are right."""
