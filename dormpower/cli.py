"""The `dormpower` command."""


def main() -> None:
    """Run the command line."""
    raise SystemExit("dormpower: no command is built yet")
