"""SSH connections and local processes: the only importer of paramiko and subprocess."""
