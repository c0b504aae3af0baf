"""One module or class at a time, with no server, or with one that the test scripts."""
