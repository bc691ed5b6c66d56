#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# One of two hosts: 2 ranks here, 2 there, shared memory inside and verbs between. Run by
# `ci/soft-roce --hosts 2 -- tests/verbs/two_hosts.sh BUILD_DIR`.
set -eu
bin=$1/bin
log=$(mktemp)
trap 'rm -f "$log"' EXIT

export RDTRAIN_DEBUG=INFO RDTRAIN_SECRET='the secret of the two hosts'
"$bin/rdtrain" run --nodes 2 --node "$SOFT_ROCE_HOST" --rendezvous "$SOFT_ROCE_ADDR_0:4711" -n 2 -- \
	"$bin/rdtrain" perf allreduce -b 8 -e 256K -f 8 -c -n 2 -w 1 >"$log" 2>&1 || { cat "$log"; exit 1; }
cat "$log"
grep -q 'connected: shm' "$log" || { echo "no pair is connected by shm"; exit 1; }
grep -q 'connected: verbs' "$log" || { echo "no pair is connected by verbs"; exit 1; }
