"""A lake: the lines of many recordings as partitioned Parquet, and questions to all of them at once."""
