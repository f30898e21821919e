"""kafka-python as the project uses it: what is patched or reached into, against a real broker."""
