"""Simulated rooms and modules on real sockets; shares no decoder with the drivers."""
