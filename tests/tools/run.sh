#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `rdtrain run` promises: places of the workers, prefixes, exit statuses, no loss, nothing left behind.
# Usage: run.sh RDTRAIN
set -u
run="$1 run"
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
		failures=$((failures + 1))
	fi
}

# exits WANTED COMMAND...: runs it, output to $work/out and $work/err
exits() {
	local wanted=$1
	shift
	"$@" >"$work/out" 2>"$work/err"
	local got=$?
	[ $got -eq "$wanted" ] || { echo "exit status $got, not $wanted: $*"; cat "$work/out" "$work/err"; false; }
}

check "workers find rank, size and service in their environment" exits 0 $run -n 3 -- sh -c \
	'test $RDTRAIN_SIZE = 3 && test $RDTRAIN_LOCAL_SIZE = 3 && test $RDTRAIN_LOCAL_RANK = $RDTRAIN_RANK &&
	test -n "$RDTRAIN_RENDEZVOUS" && test ${#RDTRAIN_SECRET} = 64 && echo rank $RDTRAIN_RANK'
check "each line carries its rank" test "$(sort "$work/out")" = "[0] rank 0
[1] rank 1
[2] rank 2"
exits 0 $run -- echo plain
check "one worker's lines carry none" test "$(cat "$work/out")" = plain
exits 0 $run -n 2 --no-prefix -- echo plain
check "nor with --no-prefix" test "$(sort -u "$work/out")" = plain
exits 0 $run -n 2 -- sh -c 'echo to stderr >&2'
check "standard error stays apart" test "$(sort "$work/err")" = "[0] to stderr
[1] to stderr"
exits 0 $run -n 2 -- printf 'no end'
check "an unfinished line is finished" test "$(sort "$work/out")" = "[0] no end
[1] no end"
exits 0 $run -n 1 -- sh -c 'echo says "$@"' sh -n 5 --help 'two words'
check "options after the command are the command's" test "$(cat "$work/out")" = "says -n 5 --help two words"
exits 0 $run -n 2 -- sh -c 'read x; echo "read $?"'
check "standard input is empty" test "$(sort -u "$work/out" | tr '\n' ' ')" = "[0] read 1 [1] read 1 "

check "the first failing worker's status is passed on" exits 7 $run -n 3 -- sh -c \
	'test $RDTRAIN_RANK = 1 && exit 7; sleep 0.2'
check "and named" grep -q 'rank 1 (pid [0-9]*) exited with status 7' "$work/err"
check "a signal is 128 plus its number" exits 137 $run -n 2 -- sh -c 'test $RDTRAIN_RANK = 1 && kill -9 $$; sleep 0.2'
check "and named" grep -q 'rank 1 (pid [0-9]*) was killed by signal 9' "$work/err"
check "a command that is not there is 127" exits 127 $run -n 2 -- /no/such/command
check "and named" grep -q '/no/such/command: No such file' "$work/err"
check "the time limit is 124" exits 124 $run -n 2 --timeout 0.5 -- sleep 30
for bad in "-n 0" "-n x" "--transport smoke" "--timeout -1" "--node 1" "--nodes 2" "--no-such-option"; do
	check "wrong usage is 2: $bad" exits 2 $run $bad -- true
done
check "no command is wrong usage" exits 2 $run -n 2
check "several hosts need a secret" exits 1 env -u RDTRAIN_SECRET $run --nodes 2 --node 0 --rendezvous 127.0.0.1:9 -- true
check "and an address that means something on each" exits 2 $run --nodes 2 --node 0 --rendezvous '*:4711' -- true
check "--help helps" exits 0 $run --help
check "an unknown command of the program is 2" exits 2 "$1" no-such-command

# No two runs of this test see each other's sleepers.
nap=9$$
# Who was killed is not dead at once, and an orphan is nobody's to wait for.
gone() {
	for _ in $(seq 100); do
		pgrep -f "sleep $nap" >/dev/null || return 0
		sleep 0.05
	done
	return 1
}

# Interrupts: the workers end, also those that ignore the first signal; nothing stays.
interrupted() {
	$run -n 2 -- bash -c "$2"' echo ready; sleep '$nap' & wait; wait' >"$work/out" 2>"$work/err" &
	local pid=$! status
	for _ in $(seq 200); do
		[ "$(grep -c ready "$work/out")" = 2 ] && break
		sleep 0.05
	done
	kill -"$1" $pid
	[ -n "${3:-}" ] && { sleep 0.3; kill -"$1" $pid; }
	wait $pid
	status=$?
	gone || return 1
	return $status
}
interrupted INT ''
check "SIGINT ends the workers and is 130" test $? = 130
interrupted TERM ''
check "SIGTERM ends the workers and is 143" test $? = 143
interrupted INT "trap '' TERM;" again
check "a second SIGINT ends those that do not listen" test $? = 130
# Killed itself, it leaves no worker behind.
$run -n 2 -- sh -c "echo ready; exec sleep $nap" >"$work/out" 2>&1 &
pid=$!
for _ in $(seq 200); do
	[ "$(grep -c ready "$work/out")" = 2 ] && break
	sleep 0.05
done
kill -KILL $pid
wait $pid 2>/dev/null
check "its own SIGKILL takes the workers with it" gone

# 30 MB from each of two workers, through a reader that is slow at first.
$run -n 2 -- sh -c 'seq 1 4000000' | (sleep 1; awk '{ n[$1]++; s[$1] += $2 } END { for (r in n) printf "%s %d %.0f\n", r, n[r], s[r] }' |
	sort) >"$work/sums"
check "much output through a slow reader is complete" test "$(cat "$work/sums")" = "[0] 4000000 8000002000000
[1] 4000000 8000002000000"

awk 'BEGIN { for (i = 0; i < 900000; i++) printf "x"; print "" }' >"$work/long"
exits 0 $run -n 2 --no-prefix -- cat "$work/long"
check "a line of 900 kB stays one line" test "$(sort -u "$work/out" | cmp - "$work/long" && wc -l <"$work/out")" = 2
exits 0 $run -- printf 'a\r\0\377b'
check "one worker's bytes are passed on as they are" cmp -s "$work/out" <(printf 'a\r\0\377b')

# A reader that leaves: the workers meet the closed pipe, as they would without us.
$run -n 2 -- yes 2>"$work/err" | head -n 3 >"$work/out"
check "a reader that leaves ends endless writers" test "${PIPESTATUS[0]} $(wc -l <"$work/out")" = "141 3"
# A reader that never reads must not keep an interrupt away.
mkfifo "$work/fifo"
exec 7<>"$work/fifo"
$run -n 2 -- yes >&7 2>"$work/err" &
pid=$!
read -r -u 7 line # it is at work
kill -INT $pid
wait $pid
check "an interrupt is heard while the reader sleeps" test $? = 130
exec 7>&-
# What a worker leaves behind ends with it, whether it writes or holds the pipe.
check "a background process does not hold the job up" exits 0 $run -n 2 -- sh -c "yes & sleep $nap & echo done"
check "and is gone" gone
check "nor one in a session of its own" exits 0 timeout 20 $run -n 2 -- sh -c 'setsid sleep 3 & echo done'

[ $failures -eq 0 ]
