"""The `dormpower` commands, one module for each group."""
