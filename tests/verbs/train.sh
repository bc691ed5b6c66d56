#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The example's training over queue pairs, 4 workers: accuracy, equal parameters, and a log that names
# verbs for every pair. Run where there is a device. Usage: train.sh BUILD_DIR
set -eu
bin=$1/bin
log=$(mktemp)
trap 'rm -f "$log" "$log.json"' EXIT

if ! "$bin/rdtrain" info --transport verbs >"$log" 2>&1; then
	cat "$log"
	[ "${RDTRAIN_TEST_REQUIRE_VERBS:-}" = 1 ] && exit 1
	exit 77
fi
RDTRAIN_DEBUG=INFO RDTRAIN_TRANSPORT=verbs "$bin/rdtrain" run -n 4 -- \
	"$bin/train_mlp" -J "$log.json" >"$log" 2>&1 || { cat "$log"; exit 1; }
cat "$log"
cat "$log.json"
tr '\n' ' ' <"$log.json" | sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' |
	awk '{ exit !($1 >= 0.95 && $1 <= 1) }' || { echo "accuracy below 0.95"; exit 1; }
digests=$(tr '\n' ' ' <"$log.json" | sed 's/.*"digests": *\[\([^]]*\)\].*/\1/' | tr -d ' "' | tr ',' '\n')
[ "$(echo "$digests" | wc -l)" = 4 ] && [ "$(echo "$digests" | sort -u | wc -l)" = 1 ] ||
	{ echo "the digests differ"; exit 1; }
grep -q 'connected: verbs' "$log" || { echo "no pair is connected by verbs"; exit 1; }
if grep 'connected: shm' "$log"; then
	echo "a pair is connected by shm"
	exit 1
fi
