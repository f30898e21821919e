"""The commands of the producer, one module each."""
