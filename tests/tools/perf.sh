#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The command line, the table and the JSON file of `rdtrain perf`; tests/verbs/perf.sh has the results
# checked for all types. Usage: perf.sh RDTRAIN
set -u
rdtrain=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

check() {
	local what=$1
	shift
	if "$@"; then
		echo "ok: $what"
	else
		echo "FAILED: $what"
		cat "$work/out" "$work/err"
		failures=$((failures + 1))
	fi
}

exits() {
	local wanted=$1
	shift
	"$@" >"$work/out" 2>"$work/err"
	local got=$?
	[ $got -eq "$wanted" ] || { echo "exit status $got, not $wanted: $*"; false; }
}

# rows: size, count, type, operation of each line of the table
rows() {
	grep -v '^#' "$work/out" | awk '{ print $1, $2, $3, $4 }' | tr '\n' ' '
}

check "alone it is a job of one" exits 0 "$rdtrain" perf allreduce -b 8 -e 64 -f 2 -c
check "one line for each size" test "$(rows)" = "8 2 float32 sum 16 4 float32 sum 32 8 float32 sum 64 16 float32 sum "
check "the total is said" grep -q '^# Out of bounds values : 0 OK' "$work/out"
check "and the average bandwidth" grep -q '^# Avg bus bandwidth ' "$work/out"
for word in -c "-c 1" -c1 "-c 0" -c0 --check --check=0; do
	check "accepts $word" exits 0 "$rdtrain" perf allreduce -b 8 $word -e 8
	wrong=$(grep -v '^#' "$work/out" | awk '{ print $9 }')
	case $word in *0) check "does not check" test "$wrong" = N/A ;; *) check "checks" test "$wrong" = 0 ;; esac
done
check "sizes have suffixes, steps may add" exits 0 "$rdtrain" perf allreduce -b 1K -e 3k -i 1024 -d int64 -n 2 -w 0
check "and whole elements" test "$(rows)" = "1024 128 int64 sum 2048 256 int64 sum 3072 384 int64 sum "
check "types and operations are lists, also by nccl-tests' names" exits 0 \
	"$rdtrain" perf allreduce -b 1 -e 8 -f 2 -d half,double -o avg,max -n 2
check "nothing is shorter than an element, or twice there" test "$(rows)" = \
	"8 1 float64 avg 8 1 float64 max 2 1 float16 avg 4 2 float16 avg 8 4 float16 avg 2 1 float16 max 4 2 float16 max 8 4 float16 max "
check "one place only" exits 0 "$rdtrain" perf allreduce -b 8 -e 8 --in-place 1
check "leaves the other empty" test "$(grep -v '^#' "$work/out" | awk '{ print $6, $9 }')" = "- -"
for form in blocking start plan; do
	for memory in alloc register malloc; do
		check "$form over $memory, 3 ranks" exits 0 "$rdtrain" run -n 3 -- "$rdtrain" perf allreduce \
			-b 4 -e 1M -f 64 -n 3 -w 1 -d all -o all --form $form --memory $memory
	done
done
check "writes JSON" exits 0 "$rdtrain" run -n 2 -- "$rdtrain" perf allreduce -b 8 -e 16 -n 7 -J "$work/json"
check "with the ranks" grep -q '"ranks": 2' "$work/json"
check "the iterations" test "$(grep -c '"iterations": 7' "$work/json")" = 4
check "and percentiles" test "$(grep -c '"p99_us": [0-9]' "$work/json")" = 4
check "a file that cannot be written is known at once" exits 1 timeout 20 "$rdtrain" run -n 2 -- \
	"$rdtrain" perf allreduce -J "$work/no/such/folder"
check "and named" grep -q 'cannot write .*/no/such/folder' "$work/err"
for bad in "" "reduce" "allreduce again" "allreduce -b 0" "allreduce -b 8x" "allreduce -b 2K -e 1K" "allreduce -f 1" \
	"allreduce -d int9" "allreduce -o mean" "allreduce -n 0" "allreduce --form x" "allreduce --in-place 2" \
	"allreduce --check=2"; do
	check "wrong usage is 2: $bad" exits 2 "$rdtrain" perf $bad
done
check "--help helps" exits 0 "$rdtrain" perf --help

[ $failures -eq 0 ]
