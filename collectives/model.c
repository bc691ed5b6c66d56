/* SPDX-License-Identifier: BSD-3-Clause */
/* Models of machines: those that are built in, and the text form; see model.h. */
#include "model.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define NS 1000u      /* ps */
#define NS_B 1000000u /* fs: one nanosecond for each byte */

/* XXH3 on an AMD EPYC, rounded: of a record, and of each byte. */
#define HASHING .hash = 20 * NS, .hash_byte = 35000

/* ---- built in ----------------------------------------------------------------------------- */

/* Within a host, for all: notifications through a cache line, copies by the CPU at 10 GB/s. */
#define SHARED_MEMORY                                                                              \
	{                                                                                          \
		.latency = 100 * NS, .put = 60 * NS, .wait = 40 * NS, .byte = 100000               \
	}

/*
 * UCC's collectives over UCX and 100 Gbit/s InfiniBand, hosts with Intel Broadwell: fitted to the
 * allreduce times of github.com/openucx/ucc pull request 630 (8 hosts with one rank each, 4 B to
 * 1 MiB, before and after tuning); tests/unit/collectives_published.c compares each of them.
 * `byte` is not fitted but what an EDR link carries, 12.1 GB/s. The copies of small messages cost
 * 4 GB/s at each end; announcing a large one costs a request and an answer.
 */
static const struct rdt_model ucx_edr = {
	.name = "ucx-edr",
	.link = {
		[RDT_LINK_HOST] = SHARED_MEMORY,
		[RDT_LINK_NET] = { .latency = 950 * NS, .put = 100 * NS, .wait = 100 * NS,
				   .byte = 82600, .eager_max = 2048, .eager_byte = 240000,
				   .rendezvous = 2300 * NS },
	},
	.reduce_byte = 50000,
	.copy_byte = 50000,
	.rails = 1,
};

/*
 * The same library on hosts with AMD Rome: latency and overheads fitted to the barriers of radix 2,
 * 4 and 8 among 8 hosts of pull request 915; the rest, which a barrier does not use, from ucx-edr.
 */
static const struct rdt_model ucx_rome = {
	.name = "ucx-rome",
	.link = {
		[RDT_LINK_HOST] = SHARED_MEMORY,
		[RDT_LINK_NET] = { .latency = 1270 * NS, .put = 235 * NS, .wait = 235 * NS,
				   .byte = 82600, .eager_max = 2048, .eager_byte = 240000,
				   .rendezvous = 2300 * NS },
	},
	.reduce_byte = 50000,
	.copy_byte = 50000,
	.rails = 1,
};

/*
 * librdtrain itself over the same wire: RDMA writes with immediate straight into registered memory,
 * so that nothing is copied or announced; but an operation is over only when the last write has
 * been acknowledged, which takes another latency. Derived from ucx-edr, not measured. A message
 * keeps an interface busy for 10 ns at least; the caches and memory of a host move 200 GB/s.
 */
static const struct rdt_model infiniband_edr = {
	.name = "infiniband-edr",
	.link = {
		[RDT_LINK_HOST] = SHARED_MEMORY,
		[RDT_LINK_NET] = { .latency = 900 * NS, .put = 100 * NS, .wait = 60 * NS,
				   .gap = 10 * NS, .byte = 82600, .complete = 900 * NS },
	},
	.reduce = 30 * NS,
	.reduce_byte = 50000,
	.copy = 20 * NS,
	.copy_byte = 50000,
	.memory_byte = 5000,
	HASHING,
	.rails = 1,
	.turn = 5000 * NS,
};

/* Ranks of one small host: as `rdtrain perf --calibrate` found it with two ranks on two processors
 * of an AMD EPYC, rounded. Between hosts: 10 Gbit/s Ethernet without RDMA, which is not measured.
 */
static const struct rdt_model shm_laptop = {
	.name = "shm-laptop",
	.link = {
		[RDT_LINK_HOST] = { .latency = 95 * NS, .put = 37 * NS, .wait = 25 * NS,
				    .byte = 86000 },
		[RDT_LINK_NET] = { .latency = 15000 * NS, .put = 1000 * NS, .wait = 1000 * NS,
				   .gap = 500 * NS, .byte = 800000, .complete = 15000 * NS },
	},
	.reduce = 85 * NS,
	.reduce_byte = 25000,
	.copy = 57 * NS,
	.copy_byte = 43000,
	.memory_byte = 12700,
	HASHING,
	.rails = 1,
	.turn = 5000 * NS,
};

const struct rdt_model *const rdt_models[] = { &infiniband_edr, &shm_laptop, &ucx_edr, &ucx_rome,
					       NULL };

const struct rdt_model *rdt_model_builtin(const char *name)
{
	for (int i = 0; rdt_models[i]; i++)
		if (strcmp(rdt_models[i]->name, name) == 0)
			return rdt_models[i];
	return NULL;
}

void rdt_model_crowd(struct rdt_model *model, int ranks)
{
	uint64_t n = ranks > 0 ? (uint64_t)ranks : 1, cores = model->cores;

	if (cores == 0 || n <= cores)
		return;
	for (int kind = 0; kind < RDT_LINK_KINDS; kind++)
		model->link[kind].latency += model->turn;
	model->link[RDT_LINK_HOST].byte = model->link[RDT_LINK_HOST].byte * n / cores;
	model->reduce_byte = model->reduce_byte * n / cores;
	model->copy_byte = model->copy_byte * n / cores;
}

/* ---- the text form ------------------------------------------------------------------------ */

enum unit { WHOLE = 0, PS = 3, FS = 6 }; /* decimals of a nanosecond that are kept */

static const struct field {
	const char *name;
	enum unit unit;
	size_t offset;
	const char *what;
} fields[] = {
#define LINK(kind, prefix, member, unit, what)                                                     \
	{                                                                                          \
		prefix #member, unit,                                                              \
			offsetof(struct rdt_model, link) + (kind) * sizeof(struct rdt_link_cost) + \
				offsetof(struct rdt_link_cost, member),                            \
			what                                                                       \
	}
#define HOST(member, unit, what) LINK(RDT_LINK_HOST, "host.", member, unit, what)
#define NET(member, unit, what) LINK(RDT_LINK_NET, "net.", member, unit, what)
	HOST(latency, PS, "until a notification is visible, ns"),
	HOST(put, PS, "CPU, each put, ns"),
	HOST(wait, PS, "CPU, each notification, ns"),
	HOST(byte, FS, "CPU, each byte put, ns"),
	NET(latency, PS, "the wire, ns"),
	NET(put, PS, "CPU, each put, ns"),
	NET(wait, PS, "CPU, each notification, ns"),
	NET(gap, PS, "interface, each message, ns"),
	NET(byte, FS, "interface, each byte, ns"),
	NET(complete, PS, "from arrival until the sender knows, ns"),
	NET(eager_max, WHOLE, "longest message that is copied, bytes"),
	NET(eager_byte, FS, "CPU at each end, each byte copied, ns"),
	NET(rendezvous, PS, "announcing a longer message, ns"),
#define OWN(text, member, unit, what)                                                              \
	{                                                                                          \
		text, unit, offsetof(struct rdt_model, member), what                               \
	}
	OWN("reduce", reduce, PS, "CPU, each reduction, ns"),
	OWN("reduce.byte", reduce_byte, FS, "CPU, each byte of each source, ns"),
	OWN("copy", copy, PS, "CPU, each copy, ns"),
	OWN("copy.byte", copy_byte, FS, "CPU, each byte copied, ns"),
	OWN("memory.byte", memory_byte, FS, "a host's memory, each byte, ns; 0: no limit"),
	OWN("hash", hash, PS, "CPU at each end of a put that is checked, ns"),
	OWN("hash.byte", hash_byte, FS, "CPU at each end, each byte put and checked, ns"),
	OWN("rails", rails, WHOLE, "network interfaces of a host"),
	OWN("cores", cores, WHOLE, "processors of a host; 0: one for each rank"),
	OWN("turn", turn, PS, "until a waiting rank runs, where ranks share cores, ns"),
#undef LINK
#undef HOST
#undef NET
#undef OWN
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))
/* A second in nanoseconds: no cost is higher, and no sum of them overflows. */
#define MOST UINT64_C(1000000000)

static uint64_t *value_of(struct rdt_model *model, const struct field *field)
{
	return (uint64_t *)((char *)model + field->offset);
}

/* A decimal fraction, exactly: floating point would round it. */
static bool decimal(const char *text, int decimals, uint64_t *value)
{
	uint64_t v = 0;
	const char *c = text;

	for (; *c >= '0' && *c <= '9'; c++) {
		v = v * 10 + (uint64_t)(*c - '0');
		if (v > MOST)
			return false;
	}
	if (c == text)
		return false;
	if (*c == '.' && decimals > 0)
		for (c++; *c >= '0' && *c <= '9' && decimals > 0; c++, decimals--)
			v = v * 10 + (uint64_t)(*c - '0');
	while (decimals-- > 0)
		v *= 10;
	*value = v;
	return *c == '\0';
}

struct place {
	const char *file;
	int line;
	char *error;
	size_t size;
};

static int fault(const struct place *at, const char *what, const char *text, const char *remedy)
{
	snprintf(at->error, at->size, "%s, line %d: %s \"%s\"; %s", at->file, at->line, what, text,
		 remedy);
	return -1;
}

static int unknown(const struct place *at, const char *name)
{
	char names[600] = "the names are base, ";

	for (size_t i = 0; i < FIELDS; i++) {
		strncat(names, fields[i].name, sizeof(names) - strlen(names) - 1);
		if (i + 1 < FIELDS)
			strncat(names, ", ", sizeof(names) - strlen(names) - 1);
	}
	return fault(at, "there is no", name, names);
}

static int set(struct rdt_model *model, const struct place *at, const char *name, const char *value)
{
	static const char *const remedies[] = {
		[WHOLE] = "write a whole number up to 1000000000",
		[PS] = "write nanoseconds up to 1000000000 with at most 3 decimals, like 0.125",
		[FS] = "write nanoseconds up to 1000000000 with at most 6 decimals, like 0.0826",
	};
	char what[64];

	if (strcmp(name, "base") == 0) {
		const struct rdt_model *base = rdt_model_builtin(value);

		if (!base)
			return fault(at, "there is no model", value,
				     "`rdtrain simulate --list-models` shows the names");
		*model = *base;
		return 0;
	}
	for (size_t i = 0; i < FIELDS; i++) {
		if (strcmp(fields[i].name, name))
			continue;
		if (!decimal(value, (int)fields[i].unit, value_of(model, &fields[i]))) {
			snprintf(what, sizeof(what), "%s is", name);
			return fault(at, what, value, remedies[fields[i].unit]);
		}
		if (model->rails == 0)
			return fault(at, "rails is", value, "a host has at least 1");
		return 0;
	}
	return unknown(at, name);
}

/* Cuts blanks off both ends. */
static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t\r");
	length = strlen(text);
	while (length && strchr(" \t\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

int rdt_model_parse(struct rdt_model *model, const char *file, const char *text, char *error,
		    size_t size)
{
	struct place at = { file, 0, error, size };
	bool any = false;

	*model = (struct rdt_model){ .rails = 1 };
	while (*text) {
		char line[256], *equals, *name;
		size_t length = strcspn(text, "\n");

		at.line++;
		snprintf(line, sizeof(line), "%.*s", (int)(length < 255 ? length : 255), text);
		if (length > 254)
			return fault(&at, "too long:", line, "write one \"name = value\" a line");
		text += length + (text[length] == '\n');
		line[strcspn(line, "#")] = '\0';
		name = trim(line);
		if (!*name)
			continue;
		equals = strchr(name, '=');
		if (!equals)
			return fault(&at, "no \"=\" in", name, "write \"name = value\"");
		*equals = '\0';
		name = trim(name);
		if (strcmp(name, "base") == 0 && any)
			return fault(&at, "too late:", name,
				     "it sets all values, so it must be the first line");
		if (set(model, &at, name, trim(equals + 1)))
			return -1;
		any = true;
	}
	snprintf(model->name, sizeof(model->name), "%s", file);
	return 0;
}

void rdt_model_print(FILE *to, const struct rdt_model *model)
{
	fprintf(to, "# %s\n", model->name);
	for (size_t i = 0; i < FIELDS; i++) {
		uint64_t value = *value_of((struct rdt_model *)model, &fields[i]);
		char text[40];
		size_t length;

		if (fields[i].unit == WHOLE)
			snprintf(text, sizeof(text), "%" PRIu64, value);
		else if (fields[i].unit == PS)
			snprintf(text, sizeof(text), "%" PRIu64 ".%03u", value / NS,
				 (unsigned)(value % NS));
		else
			snprintf(text, sizeof(text), "%" PRIu64 ".%06u", value / NS_B,
				 (unsigned)(value % NS_B));
		length = strlen(text);
		while (fields[i].unit != WHOLE && text[length - 1] == '0')
			text[--length] = '\0';
		if (text[length - 1] == '.')
			text[length - 1] = '\0';
		fprintf(to, "%-15s = %-10s # %s\n", fields[i].name, text, fields[i].what);
	}
}
