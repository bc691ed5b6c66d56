#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A worker killed by SIGKILL during elastic training: the others go on, a new worker takes its place,
# and the result is that of an undisturbed run. Usage: elastic.sh BUILD_DIR [transport]
set -u
bin=$1/bin
transport=${2:-shm}
log=$(mktemp)
trap 'rm -f "$log" "$log.json"' EXIT

fail() {
	tail -40 "$log"
	echo "FAILED: $*"
	exit 1
}

# Until the log has the words.
await() {
	for _ in $(seq 1200); do
		grep -q "$1" "$log" && return
		kill -0 $run 2>/dev/null || break
		sleep 0.05
	done
	kill $run 2>/dev/null
	fail "the log does not have: $1"
}

worker() {
	for pid in $(pgrep -P $run); do
		tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "$1" && echo "$pid"
	done
}

# More epochs than pass until the new worker is there.
"$bin/rdtrain" run -n 4 --restarts 2 --transport "$transport" -- "$bin/train_mlp" --elastic \
	--epochs "${RDTRAIN_TEST_EPOCHS:-600}" --no-progress --json "$log.json" >"$log" 2>&1 &
run=$!
await '^\[0\] *5 '
kill -KILL "$(worker RDTRAIN_RANK=2)"
await 'going on with 3 workers'
await 'going on with 4 workers'
# Once more, and this time the first one: another worker has rank 0 then.
kill -KILL "$(worker RDTRAIN_RANK=0)"
await '\[1\] going on with 3 workers'
await '\[1\] going on with 4 workers'
wait $run
status=$?
grep -e 'going on' -e 'takes its place' -e 'was killed' "$log"
[ $status -eq 0 ] || fail "rdtrain run exited with $status"
tr '\n' ' ' <"$log.json" | sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' |
	awk '{ print "accuracy", $1; exit !($1 >= 0.95 && $1 <= 1) }' || fail "accuracy below 0.95"
digests=$(tr '\n' ' ' <"$log.json" | sed 's/.*"digests": *\[\([^]]*\)\].*/\1/' | tr -d ' "' | tr ',' '\n')
[ "$(echo "$digests" | wc -l)" = 4 ] && [ "$(echo "$digests" | sort -u | wc -l)" = 1 ] ||
	fail "the digests differ: $digests"
echo ok
