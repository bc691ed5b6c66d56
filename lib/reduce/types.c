/* SPDX-License-Identifier: BSD-3-Clause */
/* Element types and operations: sizes and names. The kernels are in kernels.inc.h. */
#include <rdtrain/rdtrain.h>

static const struct {
	const char *name;
	size_t size;
} types[] = {
	[RDT_FLOAT32] = { "float32", 4 }, [RDT_FLOAT64] = { "float64", 8 },
	[RDT_FLOAT16] = { "float16", 2 }, [RDT_BFLOAT16] = { "bfloat16", 2 },
	[RDT_INT8] = { "int8", 1 },	  [RDT_UINT8] = { "uint8", 1 },
	[RDT_INT32] = { "int32", 4 },	  [RDT_UINT32] = { "uint32", 4 },
	[RDT_INT64] = { "int64", 8 },	  [RDT_UINT64] = { "uint64", 8 },
};

static const char *const ops[] = {
	[RDT_SUM] = "sum", [RDT_AVG] = "avg",	[RDT_MIN] = "min",
	[RDT_MAX] = "max", [RDT_PROD] = "prod",
};

/* The casts: an enum may be signed or not, and a caller may have cast any int to it. */
size_t rdt_type_size(enum rdt_type type)
{
	return (size_t)type < sizeof(types) / sizeof(types[0]) ? types[type].size : 0;
}

const char *rdt_type_name(enum rdt_type type)
{
	return (size_t)type < sizeof(types) / sizeof(types[0]) ? types[type].name : NULL;
}

const char *rdt_op_name(enum rdt_op op)
{
	return (size_t)op < sizeof(ops) / sizeof(ops[0]) ? ops[op] : NULL;
}
