"""Entry point: finds the command, runs it, turns errors into exit codes."""


def main() -> int:
    """Run the command line and return its exit code."""
    raise NotImplementedError
