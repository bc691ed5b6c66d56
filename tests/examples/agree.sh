#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The same training with 1, 2, 3 and 4 workers: losses within 1e-4 of each other, accuracy at least 0.95,
# and the same parameters on all ranks of each run. Usage: agree.sh BUILD_DIR
set -eu
bin=$1/bin
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# number FILE KEY: a top-level number of a JSON object on however many lines.
number() {
	tr '\n' ' ' <"$1" | sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p"
}

for n in 1 2 3 4; do
	"$bin/rdtrain" run -n $n -- "$bin/train_mlp" -J "$out/$n.json" >"$out/$n.log" 2>&1 || {
		cat "$out/$n.log"
		echo "training with $n workers failed"
		exit 1
	}
	loss=$(number "$out/$n.json" loss)
	accuracy=$(number "$out/$n.json" accuracy)
	digests=$(tr '\n' ' ' <"$out/$n.json" | sed 's/.*"digests": *\[\([^]]*\)\].*/\1/' | tr -d ' "' | tr ',' '\n')
	echo "$n workers: loss $loss accuracy $accuracy digests $(echo $digests)"
	[ "$(echo "$digests" | wc -l)" = $n ] || { echo "expected $n digests"; exit 1; }
	[ "$(echo "$digests" | sort -u | wc -l)" = 1 ] || { echo "the digests differ"; exit 1; }
	awk -v a="$accuracy" 'BEGIN { exit !(a >= 0.95 && a <= 1) }' || { echo "accuracy below 0.95"; exit 1; }
	[ $n = 1 ] && first=$loss
	awk -v a="$first" -v b="$loss" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= 1e-4 * a) }' ||
		{ echo "the loss differs from that of one worker by more than 1e-4"; exit 1; }
done
