#!/bin/sh
# 'make bench': runs tests/bench/bench_TOPIC.py, all or those named as arguments (TOPIC…). Each compares side by
# side in one run and prints medians and ratios. QUICK=1: shorter runs, for a first look.
set -eu
cd "$(dirname "$0")"
BUILD=$(realpath "../../${BUILD:-build}")
export BUILD PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$PWD/../integration"
if [ $# = 0 ]; then
	for file in bench_*.py; do
		topic=${file#bench_}
		set -- "$@" "${topic%.py}"
	done
fi
for topic; do
	echo "== $topic"
	/usr/bin/python3 "bench_$topic.py"
done
