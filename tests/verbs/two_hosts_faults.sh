#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# One of two hosts, and what can go wrong between them: ranks that are killed or stopped, a link that
# is pulled or drops everything, and one that loses, delays and reorders packets, over which training
# must end with the same parameters. Run by
# `ci/soft-roce --hosts 2 -- tests/verbs/two_hosts_faults.sh BUILD_DIR [RUNS [PART...]]`.
set -euo pipefail

usage() {
	echo "two_hosts_faults.sh: $1" >&2
	echo 'usage: two_hosts_faults.sh BUILD_DIR [RUNS [kill|netem|down|loss ...]]' >&2
	exit 2
}

(($#)) || usage 'BUILD_DIR is missing'
build=$1
runs=${2:-6}
[[ $runs =~ ^[1-9][0-9]*$ ]] || usage "RUNS is a number, not '$runs'"
parts=("${@:3}")
((${#parts[@]})) || parts=(kill netem down loss)
for part in "${parts[@]}"; do
	[[ $part =~ ^(kill|netem|down|loss)$ ]] || usage "there is no part '$part'"
done

wanted() {
	[[ " ${parts[*]} " == *" $1 "* ]]
}

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export RDTRAIN_SECRET='the secret of the two hosts'
port=4720

failed=0
campaign() {
	"$build/tests/campaign" --transport auto --alone --pace 10 --max-count 20011 \
		--start-deadline 8 --host "$SOFT_ROCE_HOST" --address "$SOFT_ROCE_ADDR_0" "$@" ||
		failed=1
}

# Training with 2 workers on each host; its results in $out/NAME.json on host 0.
train() {
	local name=$1 began=$EPOCHREALTIME
	"$build/bin/rdtrain" run --nodes 2 --node "$SOFT_ROCE_HOST" \
		--rendezvous "$SOFT_ROCE_ADDR_0:$port" -n 2 -- \
		"$build/bin/train_mlp" --epochs 3 -J "$out/$name.json" >"$out/$name.log" 2>&1 || {
		cat "$out/$name.log"
		echo "training has failed: $name"
		exit 1
	}
	port=$((port + 1))
	awk -v a="$began" -v b="$EPOCHREALTIME" -v name="$name" \
		'BEGIN { printf "training over the %s link: %.1f s\n", name, b - a }'
}

digests() {
	tr '\n' ' ' <"$out/$1.json" | sed 's/.*"digests": *\[\([^]]*\)\].*/\1/' | tr -d ' "' | tr ',' '\n'
}

if wanted kill; then
	echo "== ranks killed and stopped, on two hosts"
	campaign --runs "$runs"
fi
if wanted netem; then
	echo "== a link that loses 1 % and delays by 5 ms, with reordering"
	train good
	tc qdisc add dev eth0 root netem limit 10000 loss 1% delay 5ms 2ms reorder 25% 50%
	train bad
	tc -s qdisc show dev eth0 | sed -n 2p
	tc qdisc del dev eth0 root
	if [[ $SOFT_ROCE_HOST == 0 ]]; then
		mapfile -t good < <(digests good)
		mapfile -t bad < <(digests bad)
		echo "parameters: ${good[*]} over the good link, ${bad[*]} over the bad one"
		((${#good[@]} == 4)) && [[ ${good[*]} == "${bad[*]}" ]] &&
			[[ ${good[*]} == "${good[0]} ${good[0]} ${good[0]} ${good[0]}" ]] || {
			echo "they differ"
			exit 1
		}
	fi
fi
if wanted down; then
	echo "== the link goes down"
	campaign --runs 2 --only allreduce --link down
fi
if wanted loss; then
	echo "== the link drops everything"
	campaign --runs 2 --only allreduce --link loss
fi
exit $failed
