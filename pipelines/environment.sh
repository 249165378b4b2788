# Sourced by demo.sh and tests/run.sh: a virtual environment that holds unimos-pipe, made once and kept up to date.

# prepare_environment [EXTRA]: sets PYTHON to the active environment's interpreter, or that of a .venv made here, and
# installs the checkout with the named extra unless that was done already for this pyproject.toml.
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
        # Python compiles what is imported; compiling all of torch beforehand takes a minute.
        "$PYTHON" -m pip install --quiet --no-compile --disable-pip-version-check --editable "$target"
        echo "$(cksum pyproject.toml) $PWD" > "$stamp"
    fi
}
