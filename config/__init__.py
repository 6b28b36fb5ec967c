"""Settings, the site file, room lists and device profiles."""
