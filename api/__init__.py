"""The face: HTTP API and pages."""
