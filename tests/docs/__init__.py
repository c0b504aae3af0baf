"""Promises to readers: documentation, examples, public names, layers of the tree."""
