"""Tools of .ci/windows, which runs the tests on Python for Windows under wine."""
