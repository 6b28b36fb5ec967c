"""Dormpower: the rules and the books that the gateway and the API stand on."""

__version__ = "0.1.0"
