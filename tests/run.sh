#!/bin/bash
# Runs the tests that 'make check' has built: unit tests (cmocka), then the integration and
# system tests (pytest).
# Arguments: names of unit tests (tests/unit/NAME.c) or paths and options for pytest; none = all.
# BUILD: where things are built. JOBS: tests at a time. MARK: pytest's -m (the default: not long).
set -uo pipefail
cd "$(dirname "$0")" || exit

BUILD=$(realpath "../${BUILD:-build}")
export BUILD PYTHONDONTWRITEBYTECODE=1
# A leak in a child that was ended by a signal is none.
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_leaks=1:handle_abort=1} UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1}
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

units=() others=()
for arg; do
	if [ -f "unit/$arg.c" ]; then units+=("$BUILD/tests/unit/$arg"); else others+=("$arg"); fi
done
if [ $# = 0 ]; then
	for source in unit/*.c; do units+=("$BUILD/tests/unit/$(basename "$source" .c)"); done
	others=(integration)
	# The system tests install what was built: not with sanitizers.
	[ "$(basename "$BUILD")" = asan ] || others+=(system)
fi

for unit in "${units[@]}"; do
	timeout 300 "$unit" >"$log" 2>&1
	status=$?
	ok=$(grep -c '^\[       OK \] ' "$log")
	bad=$(grep -c '^\[  FAILED  \] ' "$log")
	if grep -q '^\[==========\] [0-9]* test(s) run' "$log"; then
		# The names are listed again in the summary, under a line with their number.
		if [ "$bad" -gt 0 ]; then bad=$(((bad - 1) / 2)); fi
		if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
	else
		bad=$((bad + 1)) # it died within a test
	fi
	passed=$((passed + ok)) failed=$((failed + bad))
	if [ "$bad" = 0 ]; then
		echo "unit $(basename "$unit"): $ok passed"
	else
		cat "$log"
		echo "unit $(basename "$unit"): $bad failed (exit $status)"
	fi
done

if [ "${#others[@]}" -gt 0 ]; then
	guest/build.sh ../build/guest || exit 1
	export CIJ_GUEST_BUILT=1
	/usr/bin/python3 -m pytest -c pytest.ini -n "${JOBS:-3}" --dist loadgroup -m "${MARK:-not long}" -rfEs "${others[@]}" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	count() { sed -n "s/.*[^0-9]\([0-9]\+\) $1.*/\1/p;s/^\([0-9]\+\) $1.*/\1/p" <<<"$(tail -n 1 "$log")" | head -n 1; }
	ok=$(count passed) bad=$(count failed) errors=$(count error) skips=$(count skipped)
	passed=$((passed + ${ok:-0})) skipped=$((skipped + ${skips:-0}))
	failed=$((failed + ${bad:-0} + ${errors:-0}))
	if [ "$status" != 0 ] && [ "${bad:-0}${errors:-0}" = 00 ]; then failed=$((failed + 1)); fi
fi

# A skip is a failure where everything was set up for the tests, but for what the machine cannot.
if [ -n "${CI-}" ] && [ "$skipped" -gt 0 ] && grep '^SKIPPED' "$log" | grep -qv 'this machine cannot'; then
	echo "skipped tests count as failures in CI" >&2
	failed=$((failed + 1))
fi
echo "$passed passed, $failed failed${skipped:+, $skipped skipped}"
[ "$failed" = 0 ]
