#!/bin/sh
# 'make lint': the layout, and what static checkers find. The sources come as arguments.
set -eu
cd "$(dirname "$0")/.."
bad=0

echo "lint: clang-format" >&2
clang-format --dry-run -Werror "$@" || bad=1

echo "lint: cppcheck" >&2
# It sees no system headers: the loops of sys/queue.h are told to it. It knows no cleanup attributes, so leaks are left to LeakSanitizer ('make asan') and valgrind.
cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
	--inline-suppr --suppress=memleak --suppress=resourceLeak --suppress=missingInclude --suppress=syntaxError --suppress=internalAstError \
	-D_GNU_SOURCE '-DTAILQ_FOREACH(v,h,f)=for((v)=(h)->tqh_first;(v);(v)=(v)->f.tqe_next)' \
	'-DLIST_FOREACH(v,h,f)=for((v)=(h)->lh_first;(v);(v)=(v)->f.le_next)' -Iinclude -I. daemon client proto tests/fake tests/unit tests/fuzz || bad=1

echo "lint: gcc -fanalyzer" >&2
flags=$(pkg-config --cflags libevent json-c libssh libsystemd uuid)
out=$(mktemp)
trap 'rm -f "$out"' EXIT
# At -O0: where cleanup functions are inlined, it takes one for another. It does not follow the
# unlinking macros of sys/queue.h and sees uses after free in loops that empty a list: those are
# left to AddressSanitizer.
# shellcheck disable=SC2086,SC2016 # flags are words; $1 is the inner shell's
printf '%s\n' daemon/*.c client/*.c proto/*.c | xargs -P "$(nproc)" -n 1 sh -c '
	gcc -std=gnu11 -D_GNU_SOURCE -DCIJ_LIBEXECDIR=\"x\" -Iinclude -I. '"$flags"' -O0 -fanalyzer \
		-Wno-analyzer-malloc-leak -Wno-analyzer-fd-leak -Wno-analyzer-possible-null-dereference \
		-Wno-analyzer-possible-null-argument -Wno-analyzer-use-after-free -Werror -c "$1" -o /dev/null' lint >"$out" 2>&1 || bad=1
[ "$bad" = 0 ] || cat "$out" >&2

echo "lint: shellcheck" >&2
shells=$(git ls-files | while read -r file; do
	head -n 1 "$file" | grep -qE '^#!/bin/(ba)?sh' && echo "$file"
done || true)
# shellcheck disable=SC2086 # names without spaces
shellcheck $shells || bad=1
exit $bad
