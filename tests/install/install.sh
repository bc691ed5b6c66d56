#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The installed library, as its users meet it: from a private prefix, through pkg-config and through
# CMake, with only the names of its headers visible, and run by the installed program.
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
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name rdtrain.pc)")
export PKG_CONFIG_PATH

# ---- what is visible: the names of its header, each with a version
visible() {
	local headers=$1 header library
	library=$(find "$prefix" -name "$2.so")
	[ -n "$library" ] || fail "$2.so was not installed"
	for header in $headers; do
		gcc -fsyntax-only -aux-info "$work/declared" -I"$prefix/include" \
			-include "$prefix/include/rdtrain/$header" -x c /dev/null
		grep "rdtrain/$header:" "$work/declared" | grep -o 'rdt_[a-z0-9_]* (' | tr -d ' (' >"$work/names"
		[ -s "$work/names" ] || fail "$header declares nothing"
		cat "$work/names"
	done | sort >"$work/names.$2"
	# The version itself is a symbol, too: RDTRAIN_0.1 A.
	nm -D --defined-only --with-symbol-versions "$library" |
		awk '$2 != "A" { print $3 }' | sort >"$work/symbols"
	if unversioned=$(grep -Ev '^rdt_[a-z0-9_]*@@RDTRAIN_(TRAIN_)?[0-9.]*$' "$work/symbols"); then
		fail "visible in $2, but not a versioned rdt_ name:" $unversioned
	fi
	sed 's/@@.*//' "$work/symbols" >"$work/visible"
	diff -u "$work/names.$2" "$work/visible" >"$work/log" || {
		cat "$work/log"
		fail "$2 shows other names (+) than $headers (-)"
	}
	echo "visible: the $(wc -l <"$work/names.$2") functions of $headers, versioned, and nothing else"
}
visible "rdtrain.h window.h" librdtrain
visible train.h librdtrain-train

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

# ---- the training layer through pkg-config, which brings the library with it
cat >"$work/rate.c" <<'END'
#include <rdtrain/train.h>
#include <stdio.h>

int main(void)
{
	struct rdt_rate rate = { .kind = RDT_RATE_STEP, .base = 1, .every = 10, .factor = 0.5 };

	printf("version %s, rates %g %g\n", rdt_version(), rdt_rate_at(&rate, 0), rdt_rate_at(&rate, 25));
	return 0;
}
END
read -r -a options < <(pkg-config --cflags --libs rdtrain-train)
gcc -Wall -Wextra -Werror "${flags[@]}" -o "$work/rate" "$work/rate.c" "${options[@]}"
"$work/rate" >"$work/log" 2>&1 && grep -q '^version .*, rates 1 0.25$' "$work/log" || {
	cat "$work/log"
	fail "the program of the training layer, built with pkg-config"
}
echo "pkg-config: the training layer"

# ---- and another through find_package
mkdir "$work/project"
cp "$source/examples/hello.c" "$work/rate.c" "$work/project/"
cat >"$work/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(hello LANGUAGES C)
find_package(rdtrain 0.1 REQUIRED COMPONENTS train)
add_executable(hello hello.c)
target_link_libraries(hello PRIVATE rdtrain::rdtrain)
add_executable(rate rate.c)
target_link_libraries(rate PRIVATE rdtrain::train)
END
{
	cmake -S "$work/project" -B "$work/project/build" -DCMAKE_PREFIX_PATH="$prefix" \
		-DCMAKE_C_FLAGS="${flags[*]}" && cmake --build "$work/project/build" &&
		"$prefix/bin/rdtrain" run -n 2 -- "$work/project/build/hello" && "$work/project/build/rate"
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
done < <(cat "$work"/names.*)
for page in man1/rdtrain.1 man7/rdtrain-environment.7; do
	[ -e "$manual/$page" ] || fail "$page was not installed"
done
echo "manual: a page for each function"
echo "ok"
