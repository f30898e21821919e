"""The service around the pure core: Kafka, clock, files and HTTP live here."""
