"""How sessions behave: seeded, lazy and pure. No Kafka, no clock, no files."""
