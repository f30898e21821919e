"""The detector: scores every session again on every action and publishes block alerts exactly once."""
