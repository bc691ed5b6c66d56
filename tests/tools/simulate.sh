#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# rdtrain simulate: the table, JSON, models from files, curves. Usage: simulate.sh RDTRAIN
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
out=$dir/out

fail() {
	echo "$1"
	cat "$out"
	exit 1
}

expect() { # STATUS TEXT ARGUMENT...
	wanted=$1 text=$2 status=0
	shift 2
	PATH=$path "$rdtrain" simulate "$@" >"$out" 2>&1 || status=$?
	[ $status = "$wanted" ] || fail "simulate $*: exit status $status, not $wanted"
	grep -q -e "$text" "$out" || fail "simulate $*: no \"$text\""
}

rdtrain=$1 path=$PATH
expect 0 '^  ring  *[0-9]*\.[0-9][0-9] *94 ' allreduce --ranks 48 --bytes 1M
expect 0 '^  dissemination ' barrier --ranks 16384 --ranks-per-host 8
expect 0 '"algorithm": "ring"' allreduce --ranks 1000 -J -
expect 0 '^ucx-edr$' --list-models
expect 2 'name a collective'
expect 2 'there is no collective "sum"' sum
expect 2 'there are: .*ring' allreduce --algorithm star
expect 2 'neither a model nor a file "nowhere"' allreduce --model nowhere
expect 2 '"1X" is not a size' allreduce --bytes 1X

# What --print-model writes can be changed and read again.
"$rdtrain" simulate --model ucx-edr --print-model >"$dir/my.model"
expect 0 "model $dir/my" allreduce --model "$dir/my.model"
echo 'net.lag = 3' >>"$dir/my.model"
expect 2 'my.model, line 25: there is no "net.lag"' allreduce --model "$dir/my.model"

# Curves: one column for each algorithm, and a word when gnuplot is missing.
mkdir "$dir/with" "$dir/without"
cat >"$dir/with/gnuplot" <<'END'
#!/bin/sh
cat "$1"
END
chmod +x "$dir/with/gnuplot"
path=$dir/with:$PATH
expect 0 "^8 [0-9.]* [0-9.]*" allreduce --ranks 4 --plot "$dir/c.svg"
grep -q "^plot \$times using 1:2 with linespoints title 'oneshot'" "$out" || fail "no plot"
expect 0 '^16384 ' barrier --plot "$dir/c.svg" --over ranks
path=$dir/without
expect 1 'apt install gnuplot' allreduce --plot "$dir/c.svg"
path=$PATH

# A training step: what cannot be hidden costs, and how many workers are worth it.
expect 0 '^# recommended: [0-9]* workers' --step-time 100 --gradient-bytes 100M
expect 0 '^  1  *0.000  *0.000  *100.000  *1.000  *1.00$' --step-time 100 --gradient-bytes 100M
expect 0 '^# recommended: 1024 workers' --step-time 1000 --gradient-bytes 1M
expect 0 '^# recommended: 1 workers' --step-time 0.01 --gradient-bytes 1G --max-workers 6
expect 0 '^  6 ' --step-time 5 --gradient-bytes 7M --max-workers 6 --strong --ranks-per-host 2
expect 0 '' --step-time 100 --gradient-bytes 100M -J "$dir/step.json" --max-workers 8
grep -q '"recommended_workers": 8' "$dir/step.json" || fail "no recommendation in JSON"
expect 2 'gradient-bytes' --step-time 100
expect 2 'is not a number' --step-time fast --gradient-bytes 1M
path=$dir/with:$PATH
expect 0 'efficiency' --step-time 100 --gradient-bytes 100M --max-workers 16 --plot "$dir/c.svg"
path=$PATH

# What a rank needs: everybody in an exchange, two neighbours in a ring; scratch as a live plan has it.
needs='[0-9.]* *[0-9]* *[0-9]* *[0-9]*'
expect 0 "^  ring  *$needs  *0  *2 " allreduce --ranks 8 --bytes 1M
expect 0 "^  exchange  *$needs  *7  *8 " allreduce --ranks 16 --ranks-per-host 8 --bytes 1M
for algorithm in ring exchange circulant radix2; do
	expect 0 "^  $algorithm " allreduce --ranks 3 --ranks-per-host 3 --mapped --bytes 1M -a $algorithm
	foretold=$(awk -v a=$algorithm '$1 == a { print int(($NF + 4095) / 4096) * 4096 }' "$out")
	RDTRAIN_ALLREDUCE=$algorithm RDTRAIN_DEBUG=INFO "$rdtrain" run -n 3 --transport shm -- \
		"$rdtrain" perf allreduce -b 1M -e 1M -n 1 -w 0 >"$out" 2>&1 || fail "perf with $algorithm"
	grep -q "(plan): $algorithm, .* $foretold bytes of scratch" "$out" ||
		fail "$algorithm: simulate says $foretold bytes of scratch, the library does not"
done
