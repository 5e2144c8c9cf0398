# shellcheck shell=bash
# Sourced by ci/bench after ci/setup.sh: `set_up_peers` makes .venv-peers and names its interpreter
# in $python. It sees all of .venv and adds ci/benchmarks/peers.txt, which changes no pinned version:
# the peers run in one process with claimlens, on the same torch.

set_up_peers() {
    local peers="$root/.venv-peers" wanted
    wanted="$(cat "$root/ci/benchmarks/peers.txt" "$root/ci/constraints.txt" | cksum)"
    if [ "$(cat "$peers/filled" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing the peers into .venv-peers (once)"
        "$python" -m venv --clear "$peers"
        show_packages "$peers"
        "$peers/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$root/ci/constraints.txt" \
            --requirement "$root/ci/benchmarks/peers.txt"
        echo "$wanted" >"$peers/filled"
    fi
    python="$peers/bin/python"
}

# Let another venv see the packages of this one.
show_packages() {
    "$python" - "$1" <<'END'
import sys
import sysconfig
from pathlib import Path

theirs = sysconfig.get_path("purelib", vars={"base": sys.argv[1]})
Path(theirs, "claimlens-dev.pth").write_text(sysconfig.get_path("purelib") + "\n")
END
}
