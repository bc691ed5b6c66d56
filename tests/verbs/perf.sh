#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# rdtrain perf with its data check, 1 to 4 ranks. Usage: perf.sh BUILD_DIR TRANSPORT LAST_SIZE TYPES
set -eu
bin=$1/bin transport=$2 last=$3 types=$4

if [ "$transport" = verbs ] && ! "$bin/rdtrain" info --transport verbs >/dev/null 2>&1; then
	"$bin/rdtrain" info --transport verbs || true
	[ "${RDTRAIN_TEST_REQUIRE_VERBS:-}" = 1 ] && exit 1
	exit 77
fi
for n in 1 2 3 4; do
	"$bin/rdtrain" run -n $n --transport "$transport" -- \
		"$bin/rdtrain" perf allreduce -b 8 -e "$last" -f 2 -c -n 2 -w 1 -d "$types" -o all
done
