#!/bin/sh
# Every week: train on what was found out since, hold the result against the model in service, and put it into shadow.
#
#     sh docs/examples/retrain.sh MODEL SHADOW [what `trainer train` takes besides]
#
# MODEL is the file in service, SHADOW the one that a worker was given as --shadow-model. Topics and brokers are those of
# the detector's variables. Nothing is replaced unless every step succeeds; the worker in shadow takes SHADOW when it is
# started next.
set -eu
model=$1 shadow=$2
shift 2
input=${DETECTOR_INPUT_TOPIC:-session-actions}
new=$(mktemp -d "$(dirname "$shadow")/retrain.XXXXXX")
trap 'rm -rf "$new"' EXIT
python -m trainer train --topic "$input" --verdicts "${DETECTOR_VERDICTS_TOPIC:-session-verdicts}" \
  --unlabelled lawful --label-delay 7d --like "$model" --version "$(date -u +%F)" --no-report --out "$new/model.onnx" "$@"
python -m detector backtest --model "$model" --model "$new/model.onnx" --topic "$input"
mv "$new/model.onnx" "$shadow"
echo "in shadow once its worker is started again: $shadow"
