"""Models of reports. They read and write nothing."""
