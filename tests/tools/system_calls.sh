#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Starting an operation makes no system call: ten times the operations make no more calls than before, but
# for those of waiting (a rank whose peer has lost the processor yields, sleeps and is woken).
# Usage: system_calls.sh RDTRAIN
set -eu
rdtrain=$1
program=$(dirname "$rdtrain")/../tests/multi_started_path
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

calls() {
	"$rdtrain" run -n 2 --transport shm -- \
		strace -c -U name,calls -o "$out/$1" "$program" "$2" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
	# Both ranks write to the same file; the last one's summary is what is looked at.
	awk '$2 ~ /^[0-9]+$/ && $1 !~ /^(sched_yield|poll|read|write|total)$/ { n += $2 } END { print n }' "$out/$1"
}

# Nor does recording a timeline.
RDTRAIN_TRACE=$out/t.json
export RDTRAIN_TRACE
few=$(calls few 100)
many=$(calls many 1000)
cat "$out/many"
echo "system calls beside those of waiting: $few with 300 operations a size, $many with ten times as many"
[ "$many" -gt 0 ] && [ $((many - few)) -lt 20 ]
