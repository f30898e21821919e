"""From labelled sessions to a model file."""
