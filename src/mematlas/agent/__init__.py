"""`mematlas agent`: one daemon for a host, which observes all processes and memory cgroups, and explains OOM kills."""
