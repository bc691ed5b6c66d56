/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for any processor of the architecture: 16-byte vectors (SSE2 on x86-64). */
#define WIDTH 16
#define TABLE rdt_reduce_baseline
#include "lib/reduce/kernels.inc.h"
