#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every way of dividing the training of the example, on 4 workers: accuracy at least 0.95, equal
# parameters where copies are, and a loss as that of one worker. Usage: parallel.sh BUILD_DIR
set -eu
bin=$1/bin
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# number FILE KEY: a top-level number of a JSON object on however many lines.
number() {
	tr '\n' ' ' <"$1" | sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p"
}

train() { # NAME WORKERS OPTION...
	name=$1 n=$2
	shift 2
	"$bin/rdtrain" run -n "$n" -- "$bin/train_mlp" -J "$out/$name.json" "$@" >"$out/log" 2>&1 || {
		cat "$out/log"
		echo "$name: training failed"
		exit 1
	}
	grep -q 'parameters  *equal on all' "$out/log" || { cat "$out/log"; exit 1; }
	echo "$name: loss $(number "$out/$name.json" loss) accuracy $(number "$out/$name.json" accuracy)"
}

near() { # NAME NAME TOLERANCE: their losses
	awk -v a="$(number "$out/$1.json" loss)" -v b="$(number "$out/$2.json" loss)" -v t="$3" \
		'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= t * a) }' ||
		{ echo "the losses of $1 and $2 differ by more than $3"; exit 1; }
}

accurate() { # NAME
	number "$out/$1.json" accuracy | awk '{ exit !($1 >= 0.95 && $1 <= 1) }' ||
		{ echo "$1: accuracy below 0.95"; exit 1; }
}

# A grid, 5 epochs, against one worker.
train one-5 1 --epochs 5
train grid-5 4 --epochs 5 --parallel 2x2
train model-5 3 --epochs 5 --parallel model
train accumulated-5 2 --epochs 5 --accumulate 3
near one-5 grid-5 1e-4
near one-5 model-5 1e-4
near one-5 accumulated-5 1e-4

train one 1
train data 4
train model 4 --parallel model
train grid 4 --parallel 2x2
train sharded 4 --shard-optimizer
train sharded-grid 4 --shard-optimizer --parallel 2x2 --optimizer adam
train bfloat16 4 --wire bfloat16
train server 5 --mode server
train stale 5 --mode server --staleness 4
train servers 6 --mode server --servers 2 --optimizer adam
train float16 4 --wire float16 --bucket 1000
for name in data model grid sharded sharded-grid bfloat16 float16 server stale servers; do
	accurate $name
done
for name in data model grid sharded server; do
	near one $name 1e-4
done
near one bfloat16 0.01
near one float16 0.01

if "$bin/rdtrain" run -n 3 -- "$bin/train_mlp" --parallel 2x2 >"$out/log" 2>&1; then
	echo "a grid of 4 on 3 workers was accepted"
	exit 1
fi
grep -q '2 copies of 2 parts are not the 3 ranks' "$out/log" || { cat "$out/log"; exit 1; }
