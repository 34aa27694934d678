#!/bin/sh
# Checks the layers of the daemon (README.md, Hacking): a file includes its own layer or a lower one.
set -eu
cd "$(dirname "$0")/../daemon"

layer_of()
{
	case $1 in
	log | strv | sock | paths | as_owner | clock | users | fileio | wire | usage) echo 1 ;;
	conf | device_conf | guest_conf | guest_conf_* | geometry | inject | inject_* | argv | dialect | dialect_* | gstate | access | qmp_policy | qmp_text | lease_book | backoff) echo 2 ;;
	proc | launch | names | qmp | probe | probe_trial | image | image_* | console | console_* | logcut | logindex | monitor | banner | monitor_* | qmp_impl | qmp_lane | oom | removal | scope) echo 3 ;;
	guest | guest_* | registry | registry_* | run | notify | ports | lease | lease_ask | lease_file | lease_impl | lease_process | services | history | admission | lease_reset | stats | host) echo 4 ;;
	view | request | conn | op | op_* | server | metrics | metrics_* | service | check) echo 5 ;;
	main) echo 6 ;;
	*)
		echo "layers: daemon/$1 has no layer: put it into tests/layers.sh and README.md" >&2
		echo 0
		;;
	esac
}

bad=0
for file in *.c *.h; do
	own=$(layer_of "${file%.*}")
	[ "$own" != 0 ] || bad=1
	# shellcheck disable=SC2013 # names without spaces
	for name in $(sed -n 's,^#include "daemon/\(.*\)\.h".*,\1,p' "$file"); do
		[ "$(layer_of "$name")" -le "$own" ] && continue
		echo "layers: daemon/$file (layer $own) includes $name.h of a higher layer" >&2
		bad=1
	done
	if grep -n '#include "client/' "$file" /dev/null; then
		echo "layers: the daemon includes nothing of the client" >&2
		bad=1
	fi
done
cd ..
if grep -nE '#include "(daemon|client)/' proto/*.[ch] include/cijqemu/*.h ||
	grep -n '#include "daemon/' client/*.[ch]; then
	echo "layers: proto/ and include/ stand below both programs, which do not include each other" >&2
	bad=1
fi
exit $bad
