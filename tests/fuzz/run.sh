#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs a fuzzer for a while, from its corpus. What it finds on the way is kept beside the program,
# what fails is printed and left there: put it into the corpus with the repair.
#
#	tests/fuzz/run.sh PROGRAM CORPUS SECONDS
set -euo pipefail
program=$1 corpus=$2 seconds=$3

found=$program.found
mkdir -p "$found"
exec "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 \
	-verbosity=1 -print_final_stats=1 -artifact_prefix="$program.failed-" "$found" "$corpus"
