"""Reports on recordings: account, lines, leaks, differences, exports."""
