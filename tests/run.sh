#!/usr/bin/env bash
# Installs unimos-pipe with its test extras into .venv (or the environment that is active), then runs ruff and pytest.
# Usage: bash tests/run.sh [--slow] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
source pipelines/environment.sh
prepare_environment test
marks="not slow and not gpu"
if [ "${1:-}" = "--slow" ]; then
    shift
    marks="not gpu"
fi
# Most tests start commands; without bytecode each of them would compile the package again.
unset PYTHONDONTWRITEBYTECODE
# Two workers with a thread each are faster than one with two: most tests are too small to share.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$PYTHON" tests/describe_cpu.py
"$PYTHON" -m ruff check --quiet .
"$PYTHON" -m ruff format --quiet --check .
"$PYTHON" -m pytest -n 2 --dist loadfile -m "$marks" "$@"
