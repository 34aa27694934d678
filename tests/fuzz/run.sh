#!/bin/bash
# Runs each fuzzer that 'make fuzz' built for FUZZ_SECONDS, from its seeds, FUZZ_JOBS at a time. What breaks one is
# kept in $BUILD/tests/fuzz/NAME-crash-…: give that file to the program to see it again; once it is mended, the file
# becomes a seed. Arguments: names; none = all.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

if [ $# = 0 ]; then
	set -- *.c
fi
if [ $# -gt 1 ]; then
	printf '%s\n' "$@" | xargs -P "${FUZZ_JOBS:-1}" -n 1 ./run.sh
	exit
fi

BUILD=$(realpath "../../${BUILD:-build/fuzz}")
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1}
name=${1%.c}
found="$BUILD/tests/fuzz/corpus/$name"
mkdir -p "$found"
if ! "$BUILD/tests/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
	-artifact_prefix="$BUILD/tests/fuzz/$name-" -print_final_stats=1 "$found" "seeds/$name" >"$found.log" 2>&1; then
	tail -n 40 "$found.log"
	echo "fuzz $name: broken"
	exit 1
fi
echo "fuzz $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log") inputs, none broke it"
