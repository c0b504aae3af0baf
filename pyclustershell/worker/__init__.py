"""Workers: one job, on this host or on many nodes."""
