#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The manual against what it describes: every page formats without a warning, the prototypes and the
# examples compile, all settings and algorithms are listed, and no page refers to one that is missing.
# Usage: manual.sh SOURCE_DIR PROGRAM
set -euo pipefail
source=$(realpath "$1")
program=$(realpath "$2")
man=$source/docs/man
environment=$man/rdtrain-environment.7
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "FAILED: $*"
	exit 1
}

# The text of one section, without what only the formatter needs.
section() {
	sed -n "/^\.SH $2\$/,/^\.S[HS]/{/^\./d;p}" "$1" | sed 's/\\-/-/g; s/\\e/\\/g; s/\\(aq/'"'"'/g'
}

pages=()
for file in "$man"/*.[137]; do
	if target=$(sed -n '1s/^\.so //p' "$file") && [ -n "$target" ]; then
		[ "${target%/*}" = "man${file##*.}" ] || fail "$file: $target is in another section"
		[ -e "$man/${target#*/}" ] || fail "$file points to $target, which does not exist"
	else
		pages+=("$file")
	fi
done

# ---- every function has its page, and that page is about it
names=
for map in rdtrain rdtrain-train; do
	more=$(sed -n 's/^\t\t\(rdt_[a-z0-9_]*\);$/\1/p' "$source/lib/$map.map")
	[ -n "$more" ] || fail "$map.map names no functions"
	names="$names $more"
done
for name in $names; do
	file=$man/$name.3
	[ -e "$file" ] || fail "no man page for $name"
	target=$(sed -n '1s/^\.so man3\///p' "$file")
	[ -z "$target" ] || file=$man/$target
	# makewhatis and apropos look there
	section "$file" NAME | grep -q "\b$name[, ]" || fail "$file does not name $name"
	grep -q "^\.B .*\b$name(" "$file" || fail "$file does not declare $name"
done
echo "functions: a page for each of the $(wc -w <<<"$names")"

# ---- prototypes and examples, page by page; a declaration unlike the header's is an error
for file in "$man"/rdt_*.3; do
	[[ " ${pages[*]} " == *" $file "* ]] || continue
	{
		cat <<'CODE'
#include <rdtrain/rdtrain.h>
#include <rdtrain/train.h>
#include <rdtrain/window.h>
#include <stdio.h>
#include <stdlib.h>
CODE
		sed -n '/^\.SH SYNOPSIS$/,/^\.fi$/p' "$file" | sed -n 's/^\.B "\?\([^#"]*\)"\?$/\1/p'
		cat <<'CODE'
/* what a reader of an example would have */
extern rdt_comm *comm;
extern float *in, *out, *gradient, *parameters, *mine, *theirs, *all, *row, *column;
extern size_t n, *samples;
extern int steps;
void fail(const char *sentence), compute(float *to), update(float *what, const float *by);
void compute_a_little(void), write_file(void), example(void);
void example(void)
{
CODE
		section "$file" EXAMPLE
		echo "}"
	} >"$work/page.c"
	gcc -std=c17 -Wall -Wextra -Werror -fsyntax-only -I"$source/include" "$work/page.c" 2>"$work/log" || {
		cat "$work/page.c" "$work/log"
		fail "prototypes or example of $file"
	}
done
echo "prototypes, examples: they compile"

# ---- settings: those of `rdtrain info`, no more and no less
"$program" info | sed -n 's/^  \(RDTRAIN_[A-Z_]*\).*/\1/p' | sort >"$work/settings"
[ -s "$work/settings" ] || fail "rdtrain info lists no settings"
sed -n '/^\.SH DESCRIPTION$/,/^\.SH EXAMPLES$/p' "$environment" |
	grep -o '^\(\.BR\? \)\?RDTRAIN_.*' | grep -o 'RDTRAIN_[A-Z_]*[A-Z]\b' | sort -u >"$work/listed"
diff -u "$work/settings" "$work/listed" >"$work/log" || {
	cat "$work/log"
	fail "$environment lists other settings (+) than rdtrain info (-)"
}

# ---- algorithms: those of the table, each beside its collective
sed -n '/rdt_algorithms\[\]/,$s/.*{ "\([a-z0-9-]*\)", RDT_COLL_\([A-Z_]*\),.*/\2 \1/p' \
	"$source/collectives/algorithms.c" | grep -v '^SEND ' | sort >"$work/algorithms"
[ -s "$work/algorithms" ] || fail "no algorithms found in algorithms.c"
sed -n '/^\.TS$/,/^\.TE$/p' "$environment" | sed 's/\\-/-/g' | awk -F'\t' '
	NF < 2 { next }
	$1 != "" { collective = substr($1, length("RDTRAIN_") + 1) }
	{ n = split($2, names, /[, ]+/); for (i = 1; i <= n; i++) if (names[i] != "") print collective, names[i] }
' | sort >"$work/listed"
diff -u "$work/algorithms" "$work/listed" >"$work/log" || {
	cat "$work/log"
	fail "$environment lists other algorithms (+) than algorithms.c (-)"
}
echo "settings, algorithms: all are listed"

# ---- references to pages of this manual
for file in "${pages[@]}"; do
	while read -r name number; do
		[ -e "$man/$name.$number" ] || fail "$file refers to $name($number), which does not exist"
	done < <(sed 's/\\-/-/g' "$file" |
		sed -n 's/^\.BR .*\b\(rdt[a-z0-9_-]*\) (\([137]\).*/\1 \2/p')
done
echo "references: none leads nowhere"

# ---- formatting
if command -v groff >/dev/null; then
	for file in "${pages[@]}"; do
		groff -t -man -Tutf8 -ww -z "$file" >"$work/log" 2>&1 || fail "groff: $file"
		[ ! -s "$work/log" ] || {
			cat "$work/log"
			fail "$file does not format without a warning"
		}
	done
	echo "formatting: ${#pages[@]} pages without a warning"
else
	echo "formatting: not checked, there is no groff here"
fi
echo "ok"
