#!/usr/bin/env bash
# Installs unimos-pipe into .venv if it is missing, then runs both stages on the embedded images.
# Usage: bash pipelines/demo.sh [options of `unimos-pipe demo`]
set -euo pipefail
cd "$(dirname "$0")/.."
source pipelines/environment.sh
prepare_environment
exec "$PYTHON" -m unimos_pipe demo "$@"
