#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# One of two hosts: 2 ranks here, 2 there, shared memory inside and verbs between; with checked
# results, and a log that says what was used. Run by
# `ci/soft-roce --hosts 2 -- tests/verbs/two_hosts.sh BUILD_DIR`.
set -eu
bin=$1/bin
log=$(mktemp)
trap 'rm -f "$log"' EXIT
port=4711

export RDTRAIN_DEBUG=INFO RDTRAIN_SECRET='the secret of the two hosts'

# perf's arguments. Each run meets at a port of its own: the one before may not be gone everywhere.
run() {
	echo "two hosts: $*"
	"$bin/rdtrain" run --nodes 2 --node "$SOFT_ROCE_HOST" --rendezvous "$SOFT_ROCE_ADDR_0:$port" \
		-n 2 -- "$bin/rdtrain" perf "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }
	cat "$log"
	port=$((port + 1))
}

says() {
	grep -q "$1" "$log" || { echo "the log does not say: $1"; exit 1; }
}

# The ranks of this host by shm, those of the other by verbs.
inside="rank [$((2 * SOFT_ROCE_HOST))$((2 * SOFT_ROCE_HOST + 1))]"
outside="rank [$((2 - 2 * SOFT_ROCE_HOST))$((3 - 2 * SOFT_ROCE_HOST))]"
connected() {
	says "$inside connected: shm"
	says "$outside connected: verbs"
	if grep "$inside connected: verbs" "$log" || grep "$outside connected: shm" "$log"; then
		echo "a pair is connected by the wrong one"
		exit 1
	fi
}

run allreduce -b 8 -e 256K -f 8 -c -n 2 -w 1
connected

# In two levels, over all kinds of memory: mapped by the neighbour and reached by the other host,
# registered, and neither.
for algorithm in hierarchical-circulant hierarchical-ring; do
	export RDTRAIN_ALLREDUCE=$algorithm
	for memory in alloc register malloc; do
		run allreduce -b 4 -e 256K -f 16 -c -n 2 -w 1 --form plan --memory $memory
		says "allreduce of .*: $algorithm, "
		connected
	done
	# Windows of several kinds, in other types.
	export RDTRAIN_WINDOW=16384
	run allreduce -b 100001 -e 100001 -c -n 2 -w 1 -d int8,float16,float64 -o sum,avg
	says "allreduce of .*: $algorithm, "
	unset RDTRAIN_WINDOW
done
unset RDTRAIN_ALLREDUCE

# A window whose ranks are on two hosts: its atomics are exact, whoever they come from.
echo "two hosts: a window"
"$bin/rdtrain" run --nodes 2 --node "$SOFT_ROCE_HOST" --rendezvous "$SOFT_ROCE_ADDR_0:$port" \
	-n 2 -- "$1/tests/multi_window" >"$log" 2>&1 || { cat "$log"; exit 1; }
cat "$log"
port=$((port + 1))
[ "$(grep -c 'the window is right' "$log")" = 2 ] || { echo "not all ranks are through"; exit 1; }
