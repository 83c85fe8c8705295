"""OOM kills: noticed, explained from what was kept, stored and shown."""
