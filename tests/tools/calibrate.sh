#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# rdtrain perf --calibrate: writes a model that `simulate` reads and by which the library chooses, on
# all ranks alike. Usage: calibrate.sh RDTRAIN
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
out=$dir/out
export RDTRAIN_TRANSPORT=shm

fail() {
	echo "$1"
	cat "$out"
	exit 1
}

expect() { # STATUS TEXT RANKS ARGUMENT...
	wanted=$1 text=$2 ranks=$3 status=0
	shift 3
	"$rdtrain" run -n "$ranks" -- "$rdtrain" perf "$@" >"$out" 2>&1 || status=$?
	[ $status = "$wanted" ] || fail "perf $*: exit status $status, not $wanted"
	grep -q -e "$text" "$out" || fail "perf $*: no \"$text\""
}

rdtrain=$1
expect 0 "within 10 % of the fastest at [0-9] of 8 sizes" 2 --calibrate="$dir/my.model"
grep -q ' direct  *16777216  *[1-9]' "$out" || fail "no time of direct"
grep -q '^host.latency  *= [0-9]' "$dir/my.model" || fail "no latency in the model"

"$rdtrain" simulate allreduce --ranks 2 --ranks-per-host 2 --mapped --model "$dir/my.model" >"$out" 2>&1 ||
	fail "simulate does not read the model"
grep -q '^  direct  *[0-9]' "$out" || fail "simulate predicts nothing"

# The model decides, and rank 0's for all: where every put takes a second, the fewest are best.
sed -i 's/^host.put .*/host.put = 1000000000/; s/^host.byte .*/host.byte = 0/' "$dir/my.model"
RDTRAIN_MODEL=$dir/my.model RDTRAIN_DEBUG=INFO expect 0 'Out of bounds values : 0 OK' 3 \
	allreduce -b 1M -e 1M -c
[ "$(grep -c 'of 262144 float32, sum (plan): board,.* predicted: board ' "$out")" = 6 ] ||
	fail "not board on all three ranks, in place and not"

expect 2 "needs two ranks" 1 --calibrate="$dir/my.model"
expect 2 "cannot write \"$dir/nowhere/my.model\": No such file" 2 --calibrate="$dir/nowhere/my.model"
RDTRAIN_MODEL=$dir/none expect 1 "neither a built-in model" 2 allreduce -e 8
echo 'host.put = much' >"$dir/bad.model"
RDTRAIN_MODEL=$dir/bad.model expect 1 'line 1: host.put is "much"; write nanoseconds' 2 allreduce -e 8
