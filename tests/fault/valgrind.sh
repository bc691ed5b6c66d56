#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A full life of a communicator under valgrind, on each of two ranks: made, memory, plain operations, a
# plan, a message, a part, all undone. No invalid access, no use of what was not set, nothing left.
#
#	tests/fault/valgrind.sh BUILD
set -euo pipefail
build=$1
command -v valgrind >/dev/null || {
	echo "valgrind is not installed"
	exit 77
}
# valgrind knows nothing of AVX-512.
export RDTRAIN_CPU=avx2
"$build/bin/rdtrain" run -n 2 --transport shm -- \
	valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect,possible \
	--errors-for-leak-kinds=definite,indirect,possible --error-exitcode=9 \
	"$build/tests/fault_memory" once
echo ok
