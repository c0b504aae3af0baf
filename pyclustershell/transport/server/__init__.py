"""The SSH and SFTP servers of the loopback cluster."""
