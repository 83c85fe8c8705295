"""The processes that the agent profiles, and the process that records them."""
