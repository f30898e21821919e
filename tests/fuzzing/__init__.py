"""Hostile records for the decoder: some in every test run, many with `make fuzz`."""
