"""The field side: polls modules, takes in readings, decides and switches."""
