"""Modbus: lines, read plans, register maps."""
