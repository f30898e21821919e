"""Labelled sessions: read, checked, split, and encoded as serving encodes them."""
