#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The example's training over queue pairs, 4 workers: accuracy, equal parameters, and a log that names
# verbs for every pair; the same with a parameter server. Run where there is a device. Usage: train.sh BUILD_DIR
set -eu
bin=$1/bin
log=$(mktemp)
trap 'rm -f "$log" "$log.json"' EXIT

if ! "$bin/rdtrain" info --transport verbs >"$log" 2>&1; then
	cat "$log"
	[ "${RDTRAIN_TEST_REQUIRE_VERBS:-}" = 1 ] && exit 1
	exit 77
fi

train() { # WORKERS DIGESTS OPTION...
	n=$1 digests=$2
	shift 2
	RDTRAIN_DEBUG=INFO RDTRAIN_TRANSPORT=verbs "$bin/rdtrain" run -n "$n" -- \
		"$bin/train_mlp" -J "$log.json" "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }
	grep -v INFO "$log" | tail -12
	tr '\n' ' ' <"$log.json" | sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' |
		awk '{ exit !($1 >= 0.95 && $1 <= 1) }' || { echo "accuracy below 0.95"; exit 1; }
	list=$(tr '\n' ' ' <"$log.json" | sed 's/.*"digests": *\[\([^]]*\)\].*/\1/' | tr -d ' "' | tr ',' '\n')
	[ "$(echo "$list" | wc -l)" = "$digests" ] && [ "$(echo "$list" | sort -u | wc -l)" = 1 ] ||
		{ echo "the digests differ"; exit 1; }
	grep -q 'connected: verbs' "$log" || { echo "no pair is connected by verbs"; exit 1; }
	if grep 'connected: shm' "$log"; then
		echo "a pair is connected by shm"
		exit 1
	fi
}

train 4 4
train 5 4 --mode server
train 5 4 --mode server --staleness 4
