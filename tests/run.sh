#!/usr/bin/env bash
# Installs unimos-pipe with its test extras into .venv (or the environment that is active), then runs ruff and pytest.
# Usage: bash tests/run.sh [--slow] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
source pipelines/environment.sh
prepare_environment test
marks="not slow"
if [ "${1:-}" = "--slow" ]; then
    shift
    marks="slow or not slow"
fi
"$PYTHON" -m ruff check --quiet .
"$PYTHON" -m ruff format --quiet --check .
"$PYTHON" -m pytest -m "$marks" "$@"
