"""Proofs that need whole sites: real processes on loopback, hit where it hurts, and the books checked after."""
