#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Training killed in the middle and resumed from its checkpoint ends with the parameters of a run that
# was not, bit for bit; also when the newest checkpoint was cut short, and when it was finished already.
# Usage: resume.sh BUILD_DIR
set -u
bin=$1/bin
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
	cat "$out/log"
	echo "FAILED: $*"
	exit 1
}

digests() {
	grep -o 'rank [0-9]*  *digest [0-9a-f]*' "$out/log"
}

resumed() { # NAME OPTION...
	name=$1
	shift
	"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 60 --no-progress "$@" >"$out/log" 2>&1 ||
		fail "$name: the whole run"
	whole=$(digests)
	[ "$(wc -l <<<"$whole")" = 4 ] || fail "$name: no digests"

	mkdir "$out/$name"
	"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 60 --no-progress "$@" \
		--checkpoint "$out/$name" >"$out/log" 2>&1 &
	run=$!
	for _ in $(seq 600); do
		[ "$(ls "$out/$name" | grep -c '^checkpoint-.*\.safetensors$')" -ge 2 ] && break
		sleep 0.02
	done
	kill -KILL "$(pgrep -P $run | head -1)"
	wait $run && fail "$name: a killed run succeeded"
	if [ "$name" = cut ]; then
		newest=$(ls "$out/$name"/checkpoint-*.safetensors | sort -V | tail -1)
		truncate -s -100 "$newest"
	fi
	"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 60 --no-progress "$@" \
		--checkpoint "$out/$name" --resume >"$out/log" 2>&1 || fail "$name: the resumed run"
	grep 'going on from step' "$out/log" || fail "$name: nothing was resumed"
	[ "$(digests)" = "$whole" ] || fail "$name: other parameters than $whole"
	"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 60 --no-progress "$@" \
		--checkpoint "$out/$name" --resume --json "$out/json" >"$out/log" 2>&1 ||
		fail "$name: resumed once more"
	[ "$(digests)" = "$whole" ] || fail "$name: a finished run was trained on when it was resumed"
	grep -q '"loss": null' "$out/json" || fail "$name: a loss without training"
	echo "$name: bitwise the parameters of the run that was not killed"
}

resumed data
resumed cut --optimizer adam
resumed grid --parallel 2x2
resumed sharded --shard-optimizer --optimizer adam
resumed wire --wire bfloat16
resumed mixed --wire float16 --parallel 2x2

"$bin/rdtrain" run -n 4 -- "$bin/train_mlp" --epochs 61 --no-progress --batch 77 \
	--checkpoint "$out/data" --resume >"$out/log" 2>&1 && fail "resumed with another batch"
grep -q 'the checkpoint is of --seed [0-9]* --batch [0-9]*' "$out/log" || fail "what the batch was is not said"
"$bin/rdtrain" run -n 3 -- "$bin/train_mlp" --epochs 61 --no-progress --wire bfloat16 \
	--checkpoint "$out/wire" --resume >"$out/log" 2>&1 || fail "resumed on another number of workers"
grep -q 'is not taken over' "$out/log" || fail "nothing is said about what rounding had lost"
echo "another batch is refused, other workers go on"
