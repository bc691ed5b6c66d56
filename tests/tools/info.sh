#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `rdtrain info` says and how it ends. Usage: info.sh RDTRAIN
set -u
rdtrain=$1
failures=0
for name in $(env | sed -n 's/^\(RDTRAIN_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done

# says WANTED_STATUS PATTERN COMMAND...
says() {
	local wanted=$1 pattern=$2 text got
	shift 2
	text=$("$@" 2>&1)
	got=$?
	if [ $got -eq "$wanted" ] && grep -q -- "$pattern" <<<"$text"; then
		echo "ok: $pattern"
	else
		echo "FAILED: exit status $got (not $wanted), or no \"$pattern\": $*"
		echo "$text"
		failures=$((failures + 1))
	fi
}

says 0 '^  rdtrain [0-9]' "$rdtrain" info
says 0 'reductions use ' "$rdtrain" info
says 0 'RLIMIT_MEMLOCK' "$rdtrain" info
says 0 '^Transport shm' "$rdtrain" info
says 0 '^Transport verbs' "$rdtrain" info
says 0 'Transport auto would' "$rdtrain" info
says 0 'a job of one worker' "$rdtrain" info
says 0 'RDTRAIN_TIMEOUT  *600 ' "$rdtrain" info
says 0 'reductions use baseline' env RDTRAIN_CPU=baseline "$rdtrain" info
says 0 'RDTRAIN_\*: rank 3 of 8, job .*, rendezvous node0:4711, secret given' \
	env RDTRAIN_RANK=3 RDTRAIN_SIZE=8 RDTRAIN_RENDEZVOUS=node0:4711 RDTRAIN_SECRET=s3cr3t-of-ours "$rdtrain" info
if env RDTRAIN_SECRET=s3cr3t-of-ours "$rdtrain" info | grep s3cr3t-of-ours; then
	echo "FAILED: it shows the secret"
	failures=$((failures + 1))
fi
says 0 'cannot be used: .*RDTRAIN_SIZE' env RDTRAIN_RANK=3 "$rdtrain" info
says 0 'Transport shm would' "$rdtrain" info --transport shm
says 1 'A setting is wrong' env RDTRAIN_TIMEOUT=soon "$rdtrain" info
says 1 'no device\|not usable' env RDTRAIN_IB_HCA=no_such_device "$rdtrain" info --transport verbs
says 2 'none of auto, shm, verbs' "$rdtrain" info --transport smoke
says 2 'one argument too many' "$rdtrain" info more
says 0 'Usage: rdtrain info' "$rdtrain" info --help
says 0 '^rdtrain [0-9]*\.[0-9]*\.[0-9]*$' "$rdtrain" --version
says 0 '  verify ' "$rdtrain" --help
says 2 'there is no command "smoke"' "$rdtrain" smoke
says 2 '  rendezvous ' "$rdtrain"

[ $failures -eq 0 ]
