"""Simulated and recorded session actions, published to Kafka."""
