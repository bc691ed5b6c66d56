#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Two devices as rails: makes a second soft-RoCE device, and checks results, that both devices carry
# about half of a large operation, and that one carries all with RDTRAIN_IB_RAILS=1. Skipped where no
# device can be made. Usage: rails.sh BUILD_DIR
set -eu
build=$1
log=$(mktemp)

if ! "$build/bin/rdtrain" info --transport verbs >"$log" 2>&1; then
	cat "$log"
	[ "${RDTRAIN_TEST_REQUIRE_VERBS:-}" = 1 ] && exit 1
	exit 77
fi
clean() {
	rdma link delete rails1 2>/dev/null || true
	ip link delete rails-net 2>/dev/null || true
	rm -f "$log"
}
trap clean EXIT
if ! { ip link add rails-net mtu 4500 type veth peer name rails-peer mtu 4500 &&
	ip addr add 10.99.77.1/24 dev rails-net && ip link set rails-net up &&
	ip link set rails-peer up && rdma link add rails1 type rxe netdev rails-net; } 2>"$log"; then
	cat "$log"
	[ "${RDTRAIN_TEST_REQUIRE_VERBS:-}" = 1 ] && exit 1
	exit 77
fi
tries=100
until grep -q ACTIVE /sys/class/infiniband/rails1/ports/1/state &&
	grep -q "4d01" /sys/class/infiniband/rails1/ports/1/gids/*; do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || { echo "rails1 does not become active"; exit 1; }
	sleep 0.1
done 2>/dev/null
other=$(ls /sys/class/infiniband | grep -v '^rails1$' | head -n 1)

sent() { cat "/sys/class/infiniband/$1/ports/1/hw_counters/sent_pkts"; }

# Prints what each device sent during a checked allreduce over both, or fails.
carry() { # environment...
	before1=$(sent "$other") before2=$(sent rails1)
	env RDTRAIN_TRANSPORT=verbs RDTRAIN_DEBUG=INFO "$@" "$build/bin/rdtrain" run -n 3 -- \
		"$build/bin/rdtrain" perf allreduce -b 8 -e 2M -f 512 -n 3 -w 1 >"$log" 2>&1 ||
		{ cat "$log"; exit 1; }
	grep -q 'Out of bounds values : 0 OK' "$log" || { cat "$log"; exit 1; }
	first=$(($(sent "$other") - before1)) second=$(($(sent rails1) - before2))
	echo "$*: $other sent $first packets, rails1 $second"
}

carry RDTRAIN_IB_RAILS=4
grep -q 'verbs: 2 devices side by side' "$log" || { cat "$log"; echo "not two devices"; exit 1; }
[ $((first * 10)) -gt $((second * 6)) ] && [ $((second * 10)) -gt $((first * 6)) ] ||
	{ echo "the devices carry unlike shares"; exit 1; }
carry RDTRAIN_IB_RAILS=1
[ "$first" -eq 0 ] || [ "$second" -eq 0 ] || { echo "one rail was asked for, two were used"; exit 1; }

# The tests of all collectives, and random ones, over both.
export RDTRAIN_TRANSPORT=verbs
"$build/tests/multi_operations"
"$build/tests/multi_property" --seed 7 --cases 25
"$build/tests/multi_failures"
