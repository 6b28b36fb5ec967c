"""Ways to talk to modules."""
