"""The same scripts on ClusterShell and on this package, event by event."""
