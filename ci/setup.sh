# shellcheck shell=bash
# Sourced by ci/claims and ci/test: `set_up core` or `set_up dev` fills .venv with the versions of
# ci/constraints.txt and names its interpreter in $python. A .venv that is filled already costs
# neither time nor network. Wheels come from wherever your pip is configured to look.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
unfinished="$root/.dev/unfinished"
in_range='import sys, venv, ensurepip; assert (3, 11) <= sys.version_info[:2] <= (3, 13)'

# On the small models that claimlens ships a second thread gains nothing, and spinning while it waits
# it costs three times the processor time. Your own setting wins: for a large model on a CPU, all
# its cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

set_up() {
    local wanted=$1
    mkdir -p "$root/.dev"
    if ! is_filled "$wanted"; then
        trap 'echo "Interrupted: the next run starts the installation anew." >&2; exit 130' INT
        {
            # a second command at the same time waits for the first, where flock is to be had
            if command -v flock >/dev/null; then flock 9; fi
            if ! is_filled "$wanted"; then fill "$wanted"; fi
        } 9>"$root/.dev/lock"
        trap - INT
    fi
    link_packages
    describe
}

# Whether .venv has all that is wanted, for this pyproject.toml and these constraints.
is_filled() {
    local set
    [ ! -e "$unfinished" ] || return 1
    for set in "$1" dev; do # dev includes core
        if [ "$(cat "$root/.venv/filled-$set" 2>/dev/null)" = "$(digest)" ]; then
            "$python" -c "$in_range" 2>/dev/null && return 0
        fi
    done
    return 1
}

digest() {
    cat "$root/ci/constraints.txt" "$root/pyproject.toml" | cksum
}

# What was cut off half-way is thrown away and made anew; a .venv that works is kept and updated.
fill() {
    local wanted=$1 quiet=--quiet base
    if [ -t 1 ]; then quiet=""; fi
    if [ -e "$unfinished" ] || ! "$python" -c "$in_range; import pip" 2>/dev/null; then
        base="$(find_python)" || return 1
        echo "Making .venv with $("$base" --version)"
        touch "$unfinished"
        "$base" -m venv --clear "$root/.venv"
    fi
    touch "$unfinished"
    rm -f "$root"/.venv/filled-*
    echo "Installing the pinned versions into .venv (once; takes some minutes)"
    requirements "$wanted" >"$root/.venv/requirements.txt"
    "$python" -m pip install ${quiet:+"$quiet"} --disable-pip-version-check \
        --constraint "$root/ci/constraints.txt" --requirement "$root/.venv/requirements.txt"
    digest >"$root/.venv/filled-$wanted"
    rm "$unfinished"
}

# The first Python that is in range, runs, and can make a venv.
find_python() {
    local name seen=""
    for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$name" -c "$in_range" 2>/dev/null; then
            echo "$name"
            return 0
        fi
        seen="$seen $name ($("$name" --version 2>/dev/null || echo "does not run"));"
    done
    cat >&2 <<END
No usable Python; looked for:${seen%;}.
claimlens needs Python 3.11, 3.12 or 3.13 with its venv module (on Debian and Ubuntu a package
of its own, python3-venv). Put one on PATH, or name it: PYTHON=/path/to/python3.12 $0
END
    return 1
}

# What pyproject.toml asks for, one requirement a line.
requirements() {
    "$python" - "$root/pyproject.toml" "$1" <<'END'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
chosen = extras["dev"] + extras["xdist"] if sys.argv[2] == "dev" else []
print(*project["dependencies"], *chosen, sep="\n")
END
}

# .dev/claimlens, the import package as a folder of links: for mypy, and for PYTHONPATH.
link_packages() {
    local package
    if [ -L "$root/.dev/claimlens" ]; then rm "$root/.dev/claimlens"; fi
    mkdir -p "$root/.dev/claimlens"
    for package in circuits fixtures ci claims; do
        ln -sfn "../../$package" "$root/.dev/claimlens/$package"
    done
}

# Such as "Python 3.12.1, torch 2.13.0+cpu, OMP_NUM_THREADS=1"; torch is not imported for it.
describe() {
    "$python" - <<'END'
import os
import platform
import runpy
from importlib.util import find_spec
from pathlib import Path

torch = find_spec("torch")
if torch is None or torch.origin is None:
    raise SystemExit("torch is gone from .venv: remove the folder .venv and run this again")
build = runpy.run_path(str(Path(torch.origin).with_name("version.py")))["__version__"]
threads = os.environ["OMP_NUM_THREADS"]
print(f"Python {platform.python_version()}, torch {build}, OMP_NUM_THREADS={threads}")
END
}
