#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `rdtrain run --restarts`: a worker that fails is replaced, the others go on, and what remains decides
# the exit status. Usage: restarts.sh PROGRAM
set -u
rdtrain=$1
log=$(mktemp)
trap 'rm -f "$log" "$log".*' EXIT

fail() {
	cat "$log"
	echo "FAILED: $*"
	exit 1
}

# Workers that are no job: nobody is a member, so nobody is replaced.
"$rdtrain" run -n 2 --restarts 3 -- bash -c '[ $RDTRAIN_RANK = 0 ]' >"$log" 2>&1
[ $? -eq 1 ] || fail "a failure without a job is hidden"
grep -q 'takes its place' "$log" && fail "replaced where nobody can admit it"

# A job that runs (perf waits for its peers), and a worker that is killed: a newcomer without a rank.
"$rdtrain" run -n 2 --restarts 1 --timeout 20 -- bash -c '
	if [ "${RDTRAIN_JOIN:-0}" = 1 ]; then
		echo "newcomer, rank ${RDTRAIN_RANK-none}, size ${RDTRAIN_SIZE-none}, local ${RDTRAIN_LOCAL_RANK-none}"
		exit 0
	fi
	[ $RDTRAIN_RANK = 0 ] || { sleep 1; kill -KILL $$; }
	RDTRAIN_START_TIMEOUT=5 exec "$0" perf allreduce -b 8 -e 8 -n 10000000' "$rdtrain" >"$log" 2>&1
status=$?
grep -q 'rank 1 .* was killed by signal 9' "$log" || fail "the kill is not reported"
grep -q 'takes its place (restart 1 of 1)' "$log" || fail "no restart"
grep -q '^\[1\] newcomer, rank none, size none, local 1$' "$log" || fail "the newcomer's place is wrong"
# Rank 0 never met its peer: that is a failure, and there are no more restarts.
[ $status -ne 0 ] || fail "exit status 0"
echo ok
