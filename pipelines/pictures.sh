#!/usr/bin/env bash
# Makes the READMEs' pictures from a report: a screenshot of its top (by chromium) and its modality-gap figure.
# Usage: bash pipelines/pictures.sh REPORT_DIR
set -euo pipefail
report="$(cd "$1" && pwd)"
cd "$(dirname "$0")/.."
mkdir -p pipelines/pictures
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --window-size=1180,1500 \
    --screenshot=pipelines/pictures/report.png "file://$report/report.html" 2>/dev/null
cp "$report/figures/modality-gap.png" pipelines/pictures/modality-gap.png
echo "pipelines/pictures/report.png and modality-gap.png"
