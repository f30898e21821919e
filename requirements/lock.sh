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
pin requirements/run.txt --extra console --extra rules --extra registry
pin requirements/test.txt --extra console --extra rules --extra registry --extra parquet --extra train --extra test
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
