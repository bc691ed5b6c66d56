#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A worker killed by SIGKILL during training: the others end within a second, each with a message that
# names it, and `rdtrain run` exits non-zero. Usage: killed.sh BUILD_DIR
set -u
bin=$1/bin
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
	cat "$log"
	echo "FAILED: $*"
	exit 1
}

# Far more epochs than can pass before the kill.
"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 1000000 --no-progress >"$log" 2>&1 &
run=$!

# The workers train once the first epochs are printed.
for _ in $(seq 600); do
	grep -q 'epoch' "$log" && break
	sleep 0.05
done
grep -q 'epoch' "$log" || { kill $run; fail "no epoch within 30 s"; }

victim=
for pid in $(pgrep -P $run); do
	if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx 'RDTRAIN_RANK=2'; then
		victim=$pid
	fi
done
[ -n "$victim" ] || { kill $run; fail "worker of rank 2 not found"; }
others=$(pgrep -P $run | grep -vx "$victim")

kill -KILL "$victim"
from=$(date +%s%N)
for pid in $others; do
	while [ -e "/proc/$pid" ] && [ "$(awk '{print $3}' "/proc/$pid/stat" 2>/dev/null)" != Z ]; do
		[ $(($(date +%s%N) - from)) -lt 10000000000 ] || { kill $run; fail "worker $pid lives on"; }
		sleep 0.01
	done
done
took=$((($(date +%s%N) - from) / 1000000))
wait $run
status=$?

echo "the others ended after $took ms; rdtrain run exited with $status"
[ $took -lt 1000 ] || fail "the others took $took ms"
[ $status -ne 0 ] || fail "rdtrain run exited with 0"
for rank in 0 1 3; do
	grep -q "^\[$rank\].*rank 2" "$log" || fail "rank $rank did not name rank 2"
done
