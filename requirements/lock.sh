#!/bin/sh
# Pins every dependency of pyproject.toml with its hashes, for all platforms and Python 3.11 and up.
# Usage: requirements/lock.sh VENV
set -eu
venv=$1
"$venv/bin/python" -m pip install --quiet uv
pin() {
  output=$1
  shift
  "$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock" "$@" pyproject.toml -o "$output"
}
run="--extra console --extra rules --extra registry"
train="--extra parquet --extra train"
# shellcheck disable=SC2086 # options, to be split
pin requirements/run.txt $run
# shellcheck disable=SC2086
pin requirements/test.txt $run $train --extra test
# The lowest versions that pyproject.toml allows of what runs, with the tools that test: for `make lowest`, on one machine.
lowest() {
  "$venv/bin/uv" pip compile --quiet --python-version 3.11 --no-emit-index-url --no-annotate \
    --custom-compile-command "make lock" "$@" pyproject.toml
}
bounds=$(mktemp)
trap 'rm -f "$bounds"' EXIT
# shellcheck disable=SC2086
lowest --resolution lowest-direct $run $train -o "$bounds"
# shellcheck disable=SC2086
lowest --upgrade --generate-hashes --constraints "$bounds" $run $train --extra test -o requirements/lowest.txt
# Shares the environment with the above, and so their versions.
pin requirements/docs.txt --constraints requirements/test.txt --group docs
# These live in environments of their own: the peers of the benchmarks, and what looks for vulnerabilities.
alone() {
  output=$1
  shift
  "$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock" "$@" -o "$output"
}
alone requirements/peers.txt requirements/peers.in
alone requirements/audit.txt --group audit
deploy/lock.sh "$venv"
