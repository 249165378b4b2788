#!/usr/bin/env bash
# For whoever has a CUDA GPU: tests that hold it against the CPU, then the figures that README.md gives of one.
# Usage: bash tests/gpu.sh [options of bench extract; default: --dataset icons]
set -euo pipefail
cd "$(dirname "$0")/.."
source pipelines/environment.sh
prepare_environment test
[ $# -gt 0 ] || set -- --dataset icons
"$PYTHON" -m pytest -m gpu tests/integration/test_gpu.py
for encoder in RN50 ViT-B-16 ViT-L-14; do
    "$PYTHON" -m unimos_pipe bench extract "$@" --encoder "$encoder" --random-weights --encoder-precision auto --batch-size auto
done
"$PYTHON" -m unimos_pipe bench adapt --compare-rounds 5 --train-precision fp32 --train-precision bf16 --stack 1 --stack 12 --stack 36
