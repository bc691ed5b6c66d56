#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# rdtrain verify: all algorithms pass up to 33 ranks, and a schedule can be looked at. Usage: verify.sh RDTRAIN
set -eu
out=$(mktemp)
trap 'rm -f "$out"' EXIT

"$1" verify --max-ranks 33 >"$out"
cat "$out"
tail -n 1 "$out" | grep -q '^[1-9][0-9]* cases, all passed$'
for algorithm in oneshot exchange radix8 circulant ring tree dissemination; do
	grep -q " $algorithm " "$out" || { echo "$algorithm was not verified"; exit 1; }
done

"$1" verify --print --algorithm ring --ranks 3 --bytes 24 --rank 2 >"$out"
grep -q 'PUT INPUT@2\[8..16) -> SCRATCH@0\[0..8)' "$out" || { cat "$out"; exit 1; }

status=0
"$1" verify --max-ranks 65 >"$out" 2>&1 || status=$?
[ $status = 2 ] || { echo "65 ranks: exit status $status, not 2"; exit 1; }
