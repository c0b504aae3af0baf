"""Workers: each runs one job, on this host or on many nodes."""
