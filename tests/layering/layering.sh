#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Includes point downwards only. Usage: layering.sh SOURCE_DIR
# Each line below: a layer, then the layers that it may include beside itself and <rdtrain/...>.
cd "$1" || exit 1
fail=0

check() {
	layer=$1
	shift
	for file in $(find "$layer" -name '*.[ch]'); do
		# Includes of the project are in quotes: a file of the same folder, or a path from the top.
		for path in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file"); do
			case $path in
			lib/* | collectives/* | tools/* | tests/* | examples/*) ;;
			*) path=$layer/$path ;;
			esac
			if [ ! -e "$path" ]; then
				echo "$file includes $path, which does not exist"
				fail=1
			fi
			allowed=no
			for folder in "$layer" "$@"; do
				case $path in "$folder"/*) allowed=yes ;; esac
			done
			if [ $allowed = no ]; then
				echo "$file includes $path: $layer may include only: $layer $*"
				fail=1
			fi
		done
	done
}

check collectives
check lib/base
check lib/reduce lib/base
check lib/transport lib/base
check lib/bootstrap lib/base
check lib/memory lib/base
check lib/engine lib/base lib/reduce lib/transport collectives
check lib/comm lib/base lib/reduce lib/transport lib/bootstrap lib/memory lib/engine collectives
check lib/train # on the public headers alone
check examples

# collectives/ is pure: libc and itself, not even the public header.
if grep -n '#include <rdtrain' collectives/*.[ch]; then
	echo "collectives/ includes the public header: it is pure"
	fail=1
fi
# The service's event loop stays out of the library.
if grep -ln 'event2/' lib -r | grep -v '^lib/bootstrap/server'; then
	echo "only lib/bootstrap/server*.c may use libevent"
	fail=1
fi
exit $fail
