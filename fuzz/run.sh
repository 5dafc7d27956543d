#!/bin/sh
# Fuzzes: run.sh SECONDS [TARGET…]. Ends with an error at the first crash, hang or too much memory.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
[ $# -gt 0 ] || set -- $(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
export RUSTC_BOOTSTRAP=1
for target in "$@"; do
    mkdir -p "fuzz/found/$target"
    cargo fuzz run "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=60 -rss_limit_mb=1024 -print_final_stats=1
done
