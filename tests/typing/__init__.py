"""Scripts that mypy checks, and that nobody runs: the types that users see."""
