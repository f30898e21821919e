"""The producer: behaviour, publishing, recordings and the command line."""
