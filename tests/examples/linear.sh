#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Linear regression in each mode: theta within 1e-6 of the closed-form solution, J printed for each
# iteration and never rising, and all modes alike. Usage: linear.sh BUILD_DIR [MODE...]
set -eu
bin=$1/bin
shift
[ $# -gt 0 ] || set -- data model server
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

number() {
	tr '\n' ' ' <"$1" | sed -n "s/.*\"$2\": *\([-0-9.eE+]*\).*/\1/p"
}

regress() { # NAME WORKERS OPTION...
	name=$1 n=$2
	shift 2
	"$bin/rdtrain" run -n "$n" -- "$bin/train_linear" -J "$out/$name.json" "$@" >"$out/$name.log" 2>&1 || {
		tail -30 "$out/$name.log"
		echo "$name: regression failed"
		exit 1
	}
	# Rounding may move the last digit of a sum that no longer changes, by some 1e-16 of it.
	sed -n 's/^\(\[[0-9]\] \)\{0,1\} *\([0-9]\+\)  \([0-9.e+-]\+\)  *[0-9.e+-]\+$/\2 \3/p' "$out/$name.log" |
		awk -v wanted="$(number "$out/$name.json" iterations)" '
		$1 != NR - 1 { print "iteration " NR - 1 " is missing"; bad = 1 }
		NR > 1 && $2 > last * (1 + 1e-13) { print "J rose in iteration " $1; bad = 1 }
		{ last = $2 }
		END { if (NR != wanted) { print NR " iterations printed of " wanted; bad = 1 } exit bad }' ||
		{ echo "$name"; exit 1; }
	error=$(number "$out/$name.json" relative_error)
	echo "$name: $(number "$out/$name.json" iterations) iterations, relative error $error"
	awk -v e="$error" 'BEGIN { exit !(e >= 0 && e <= 1e-6) }' || { echo "$name: error above 1e-6"; exit 1; }
}

theta() {
	tr '\n' ' ' <"$1" | sed 's/.*"theta": *\[\([^]]*\)\].*/\1/' | tr -d ' ' | tr ',' '\n'
}

alike() { # NAME NAME
	theta "$out/$1.json" >"$out/a"
	theta "$out/$2.json" >"$out/b"
	paste "$out/a" "$out/b" | awk '{ d += ($1 - $2) ^ 2; s += $1 ^ 2 }
		END { exit !(NR > 1 && d <= 1e-14 * s) }' || { echo "theta of $1 and $2 differ"; exit 1; }
}

regress random-1 1 --random 10000x100
regress diabetes-1 1
for mode in "$@"; do
	n=4
	[ "$mode" != server ] || n=5 # and a server
	regress "random-$mode" $n --mode "$mode" --random 10000x100
	regress "diabetes-$mode" $n --mode "$mode"
	alike random-1 "random-$mode"
	alike diabetes-1 "diabetes-$mode"
done
