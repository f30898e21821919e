"""What crosses Kafka: events, alerts, dead letters, topics and headers. Depends on nothing else of ours."""
