"""What is read of processes and memory cgroups while the agent runs."""
