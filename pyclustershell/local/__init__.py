"""Local processes: the only importer of subprocess."""
