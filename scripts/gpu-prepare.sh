#!/usr/bin/env bash
# Builds what scripts/gpu-session.sh runs on a machine with a GPU, which then needs no cargo: the tool, the tests
# and the measuring programs, stripped, into gpu-bundle/ (or the folder given). For x86-64 Linux with a glibc no
# older than this machine's.
#
#   scripts/gpu-prepare.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bundle=${1:-gpu-bundle}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin"

target=$(cargo metadata --format-version 1 --no-deps --offline | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)

# Tests are built under names with a hash, which cargo prints.
built=$({
    cargo test --release --no-run --package layernorm-tests --test cuda &&
        cargo test --release --no-run --package layernorm-host --tests
} 2>&1) || {
    echo "$built" >&2
    exit 1
}
while read -r test program; do
    cp "$program" "$scratch/bin/test-$test"
done < <(sed -nE 's|^ *Executable (tests/)?([a-z_0-9]+)\.rs \((.*)\)$|\2 \3|p' <<<"$built")
[[ -e $scratch/bin/test-cuda ]] || {
    echo "cargo named no test cuda:" >&2
    echo "$built" >&2
    exit 1
}

cargo build --release --quiet --package layernorm-tests --bin plan-rows \
    --package layernorm-host --bin layernorm --example plan --example launch_cost
cp "$target"/release/{layernorm,plan-rows,examples/plan,examples/launch_cost} "$scratch/bin/"
strip "$scratch"/bin/*

# What the software GPU counts for the launches that the session profiles: it takes no GPU, so it is done here.
shapes=(32768x4096 8192x32768)
for shape in "${shapes[@]}"; do
    cargo xtask profile --json --n-rows "${shape%x*}" --n-cols "${shape#*x}" --dtype bf16
done >"$scratch/software-counters.json"

commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD || commit+=-changed
echo "$commit" >"$scratch/commit"
printf '%s\n' "${shapes[@]}" >"$scratch/profiled"

rm -rf "$bundle"
mkdir -p "$bundle"
# One file, packed, with a dictionary that spans programs: each of them holds all of the PTX.
tar -C "$scratch" -c . | xz -T1 --lzma2=preset=4,dict=128MiB >"$bundle/bundle.tar.xz"
du -h "$bundle/bundle.tar.xz"
tar -tf "$bundle/bundle.tar.xz" | sort
