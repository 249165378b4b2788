#!/usr/bin/env bash
# Everything that needs a CUDA GPU: tests against the CPU, then what README.md says of GPUs. Seen on: see README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -m pytest -q -p no:cacheprovider -m gpu tests/whole/test_gpu.py
for encoder in RN50 ViT-B/16 ViT-L/14; do
  "$python" -m unimos_pipe bench extract --dataset icons --encoder "$encoder" --random-weights --precision auto
done
"$python" -m unimos_pipe bench adapt --size office_home --stack 1 --stack 12 --stack 36
"$python" -m unimos_pipe bench adapt --size domainnet --stack 4
