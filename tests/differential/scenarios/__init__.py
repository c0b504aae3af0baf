"""Scripts as ClusterShell's users write them; imported by tests.differential.run only."""
