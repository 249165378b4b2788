# Sourced by demo.sh and tests/run.sh: a virtual environment with unimos-pipe, created once and kept up to date.

# prepare_environment [EXTRA]: sets PYTHON to the active environment's interpreter, or that of a new .venv, and
# installs the checkout with the extra unless this was done for the current pyproject.toml.
prepare_environment() {
    local extra="${1:-}" target=".${1:+[$1]}" stamp
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PYTHON="$VIRTUAL_ENV/bin/python"
    else
        [ -x .venv/bin/python ] || python3 -m venv .venv
        PYTHON="$PWD/.venv/bin/python"
    fi
    stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.unimos-pipe-${extra:-base}"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(cksum pyproject.toml) $PWD" ]; then
        echo "Installing unimos-pipe into $("$PYTHON" -c 'import sys; print(sys.prefix)') (torch is large: a few minutes)" >&2
        # Modules are compiled on import; compiling all of torch at installation takes a minute.
        "$PYTHON" -m pip install --quiet --no-compile --disable-pip-version-check --editable "$target"
        echo "$(cksum pyproject.toml) $PWD" > "$stamp"
    fi
}
