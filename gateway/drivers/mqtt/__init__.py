"""MQTT: topics and payloads of modules that speak for themselves."""
