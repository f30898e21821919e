"""The service around the pure core: Kafka, clock, files and HTTP live here."""

from detector.runtime import batches  # noqa: F401  whatever reads from Kafka here reads its batches through it
