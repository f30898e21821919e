"""The pure core: values in, values out. No Kafka, no clock, no files."""
