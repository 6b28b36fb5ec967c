"""The rules: pure functions and frozen values; no clock, I/O, logging or randomness."""
