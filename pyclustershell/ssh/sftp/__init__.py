"""An SFTP client that never blocks: copies between this host and many nodes, on the engine."""
