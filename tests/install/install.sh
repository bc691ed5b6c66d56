#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The installed library, as its users meet it: from a private prefix, through pkg-config and through
# CMake, with only the names of rdtrain.h visible, and run by the installed program.
# Usage: install.sh BUILD_DIR
set -euo pipefail
build=$(realpath "$1")
source=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() {
	echo "FAILED: $*"
	exit 1
}

cmake --install "$build" --prefix "$prefix" >"$work/log" 2>&1 || {
	cat "$work/log"
	fail "cmake --install"
}
library=$(find "$prefix" -name librdtrain.so)
[ -n "$library" ] || fail "librdtrain.so was not installed"
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name rdtrain.pc)")
export PKG_CONFIG_PATH

# ---- what is visible
gcc -fsyntax-only -aux-info "$work/declared" -include "$prefix/include/rdtrain/rdtrain.h" -x c /dev/null
grep 'rdtrain/rdtrain\.h' "$work/declared" | grep -o 'rdt_[a-z0-9_]* (' | tr -d ' (' | sort >"$work/names"
[ -s "$work/names" ] || fail "rdtrain.h declares nothing"
# The version itself is a symbol, too: RDTRAIN_0.1 A.
nm -D --defined-only --with-symbol-versions "$library" |
	awk '$2 != "A" { print $3 }' | sort >"$work/symbols"
if unversioned=$(grep -v '^rdt_[a-z0-9_]*@@RDTRAIN_[0-9.]*$' "$work/symbols"); then
	fail "visible, but not a versioned rdt_ name:" $unversioned
fi
sed 's/@@.*//' "$work/symbols" >"$work/visible"
diff -u "$work/names" "$work/visible" >"$work/log" || {
	cat "$work/log"
	fail "the library shows other names (+) than rdtrain.h (-)"
}
echo "visible: the $(wc -l <"$work/names") functions of rdtrain.h, versioned, and nothing else"

# A sanitizer's library must be linked into the program as well.
flags=()
sanitize=$(sed -n 's/^RDTRAIN_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
[ -z "$sanitize" ] || flags=("-fsanitize=$sanitize")

# ---- a C program through pkg-config: sums a malloc'd buffer in place
cat >"$work/sum.c" <<'END'
#include <rdtrain/rdtrain.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT 1000003

int main(void)
{
	float *v = malloc(COUNT * sizeof(float));
	rdt_comm *comm;
	int n, rank;

	if (!v || rdt_comm_create(NULL, &comm)) {
		fprintf(stderr, "%s\n", rdt_last_error());
		return 1;
	}
	n = rdt_comm_size(comm);
	rank = rdt_comm_rank(comm);
	for (size_t i = 0; i < COUNT; i++)
		v[i] = (float)(i % 1000) + (float)rank;
	if (rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM)) {
		fprintf(stderr, "rank %d: %s\n", rank, rdt_last_error());
		return 1;
	}
	for (size_t i = 0; i < COUNT; i++) {
		float expected = (float)n * (float)(i % 1000) + (float)(n * (n - 1) / 2);

		if (v[i] != expected) {
			fprintf(stderr, "rank %d: v[%zu] is %g, not %g\n", rank, i, v[i], expected);
			return 1;
		}
	}
	printf("rank %d of %d: right\n", rank, n);
	rdt_comm_destroy(comm);
	free(v);
	return 0;
}
END
read -r -a options < <(pkg-config --cflags --libs rdtrain)
gcc -Wall -Wextra -Werror "${flags[@]}" -o "$work/sum" "$work/sum.c" "${options[@]}"
"$prefix/bin/rdtrain" run -n 3 -- "$work/sum" >"$work/log" 2>&1 || {
	cat "$work/log"
	fail "the program built with pkg-config"
}
[ "$(grep -c 'rank [012] of 3: right' "$work/log")" = 3 ] || {
	cat "$work/log"
	fail "expected 3 ranks to be right"
}
echo "pkg-config: 3 ranks summed 1000003 floats in place"

# ---- and another through find_package
mkdir "$work/project"
cp "$source/examples/hello.c" "$work/project/"
cat >"$work/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(hello LANGUAGES C)
find_package(rdtrain 0.1 REQUIRED)
add_executable(hello hello.c)
target_link_libraries(hello PRIVATE rdtrain::rdtrain)
END
{
	cmake -S "$work/project" -B "$work/project/build" -DCMAKE_PREFIX_PATH="$prefix" \
		-DCMAKE_C_FLAGS="${flags[*]}" && cmake --build "$work/project/build" &&
		"$prefix/bin/rdtrain" run -n 2 -- "$work/project/build/hello"
} >"$work/log" 2>&1 || {
	cat "$work/log"
	fail "the program built with find_package"
}
[ "$(grep -c 'rank [01] of 2: the sum is 4 6 8 10' "$work/log")" = 2 ] || {
	cat "$work/log"
	fail "expected the sum 4 6 8 10 on 2 ranks"
}
echo "find_package: 2 ranks summed a vector"

# ---- the manual: every public function can be looked up, and so can the program and the settings
manual=$(dirname "$(find "$prefix" -type d -name man3)")
while read -r name; do
	[ -e "$manual/man3/$name.3" ] || fail "no man page for $name"
done <"$work/names"
for page in man1/rdtrain.1 man7/rdtrain-environment.7; do
	[ -e "$manual/$page" ] || fail "$page was not installed"
done
echo "manual: a page for each function"
echo "ok"
