/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which set of kernels runs here. Chosen on first use, once for the process: the best set that the
 * processor and the operating system support, or the one that RDTRAIN_CPU names.
 */
#include "lib/reduce/kernels.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "lib/base/log.h"

struct set {
	const char *name;
	bool (*runs_here)(void);
	const rdt_reduce_fn (*table)[RDT_N_OPS];
};

#ifdef __x86_64__
/* __builtin_cpu_supports also asks whether the operating system saves the wide registers. It does
 * not know f16c in every compiler; F16C's registers are AVX's, so cpuid is enough. */
static bool has_f16c(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && has_f16c();
}

static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}
#endif

static bool always(void)
{
	return true;
}

/* Best first. */
static const struct set sets[] = {
#ifdef __x86_64__
	{ "avx512", has_avx512, rdt_reduce_avx512 },
	{ "avx2", has_avx2, rdt_reduce_avx2 },
#endif
	{ "baseline", always, rdt_reduce_baseline },
};
#define N_SETS (sizeof(sets) / sizeof(sets[0]))

/* Written once, under `once`; read-only afterwards. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct set *in_use;
static const char *names[N_SETS + 1];

static const struct set *find(const char *name)
{
	for (size_t i = 0; i < N_SETS; i++)
		if (!strcmp(sets[i].name, name))
			return &sets[i];
	return NULL;
}

static void choose(void)
{
	const char *want = getenv("RDTRAIN_CPU");
	const struct set *wanted;
	size_t n = 0;

	for (size_t i = 0; i < N_SETS; i++) {
		if (!sets[i].runs_here())
			continue;
		if (!in_use)
			in_use = &sets[i];
		names[n++] = sets[i].name;
	}
	if (!want || !*want || !strcmp(want, "best"))
		return;
	wanted = find(want);
	if (!wanted)
		rdt_warn("RDTRAIN_CPU=%s is no instruction set; using %s. Known: best, avx512, "
			 "avx2, baseline",
			 want, in_use->name);
	else if (!wanted->runs_here())
		rdt_warn("RDTRAIN_CPU=%s: this processor lacks it; using %s", want, in_use->name);
	else
		in_use = wanted;
}

static rdt_reduce_fn lookup(const struct set *set, enum rdt_type type, enum rdt_op op)
{
	if ((size_t)type >= RDT_N_TYPES || (size_t)op >= RDT_N_OPS)
		return NULL;
	return set->table[type][op];
}

rdt_reduce_fn rdt_reduce_kernel(enum rdt_type type, enum rdt_op op)
{
	pthread_once(&once, choose);
	return lookup(in_use, type, op);
}

rdt_reduce_fn rdt_reduce_kernel_isa(const char *isa, enum rdt_type type, enum rdt_op op)
{
	const struct set *set = isa ? find(isa) : NULL;

	return set && set->runs_here() ? lookup(set, type, op) : NULL;
}

const char *const *rdt_reduce_isas(void)
{
	pthread_once(&once, choose);
	return names;
}

const char *rdt_reduce_isa(void)
{
	pthread_once(&once, choose);
	return in_use->name;
}
