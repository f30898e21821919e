"""The model file and its scorer."""
