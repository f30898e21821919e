#!/bin/bash
# Writes server.properties from the environment, formats the storage unless it is, and becomes the broker.
set -eu
export CLUSTER_ID=${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw} # the official image's default
setup() {
  java -Xmx256m -cp '/opt/kafka/libs/*' kafka.docker.KafkaDockerWrapper setup \
    --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
    --final-configs-dir /opt/kafka/config 2>&1
}
# Storage formatted at an earlier start is no failure, though the wrapper says so.
if ! said=$(setup) && [[ $said != *"already formatted"* ]]; then
  echo "$said"
  exit 1
fi
# shellcheck disable=SC2086 # options, to be split
exec java ${KAFKA_HEAP_OPTS:--Xmx1g} -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.yaml \
  -cp '/opt/kafka/libs/*' kafka.Kafka /opt/kafka/config/server.properties
