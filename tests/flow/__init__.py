"""Whole runs over SSH, SFTP and local processes, against real servers."""
