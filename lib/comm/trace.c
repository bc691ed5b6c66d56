/* SPDX-License-Identifier: BSD-3-Clause */
/* The timeline; see trace.h. */
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/path.h"

#define EVENTS 65536 /* the last so many are kept; a power of two */
#define NAME 36
#define ROWS (2 * RDT_REQUESTS) /* operations side by side that are told apart */

enum kind { OPERATION, BEGIN, END };

struct event {
	int64_t from, to; /* BEGIN, END: to is which event of all it was */
	uint64_t bytes;
	uint8_t kind, type;
	uint16_t comm;
	char name[NAME]; /* OPERATION: collective and algorithm, each with its terminator */
};

_Static_assert(sizeof(struct event) == 64, "a cache line");

struct rdt_trace {
	FILE *file;
	char path[PATH_MAX];
	int rank, size;
	pid_t owner;
	_Atomic int users; /* communicators */
	_Atomic int comms; /* that there ever were */
	_Atomic uint64_t recorded;
	struct event *ring;
};

int rdt_trace_open(const char *pattern, int rank, int size, struct rdt_trace **out)
{
	struct rdt_trace *trace;
	size_t length;

	*out = NULL;
	if (!pattern)
		return 0;
	trace = calloc(1, sizeof(*trace));
	if (trace)
		trace->ring = malloc(EVENTS * sizeof(*trace->ring));
	if (!trace || !trace->ring) {
		free(trace);
		return rdt_err(RDT_ERR_NOMEM, "out of memory for a timeline (RDTRAIN_TRACE)");
	}
	memset(trace->ring, 0, EVENTS * sizeof(*trace->ring)); /* no page fault later */
	trace->rank = rank;
	trace->size = size;
	trace->owner = getpid();
	trace->users = trace->comms = 1;
	if (!rdt_path_expand(pattern, rank, trace->path, sizeof(trace->path) - 16)) {
		length = strlen(trace->path);
		if (length > 5 && strcmp(trace->path + length - 5, ".json") == 0)
			length -= 5;
		sprintf(trace->path + length, ".%d.json", rank);
	}
	trace->file = fopen(trace->path, "we");
	if (!trace->file) {
		int error = errno;

		free(trace->ring);
		errno = error;
		error = rdt_err_errno(RDT_ERR_INVALID, "RDTRAIN_TRACE: cannot write %.512s",
				      trace->path);
		free(trace);
		return error;
	}
	*out = trace;
	return 0;
}

void rdt_trace_share(rdt_comm *comm, rdt_comm *part)
{
	if (!comm->trace)
		return;
	part->trace = comm->trace;
	part->trace_number = atomic_fetch_add(&comm->trace->comms, 1);
	atomic_fetch_add(&comm->trace->users, 1);
}

/* Communicators of several threads may share the ring. */
static struct event *next(struct rdt_trace *trace)
{
	uint64_t n = atomic_fetch_add_explicit(&trace->recorded, 1, memory_order_relaxed);

	return &trace->ring[n % EVENTS];
}

static uint64_t bytes_of(const rdt_comm *comm, const struct rdt_call *call)
{
	uint64_t elements = call->count;
	bool blocks = call->collective != RDT_COLL_ALLREDUCE &&
		      call->collective != RDT_COLL_BROADCAST &&
		      call->collective != RDT_COLL_REDUCE && call->collective != RDT_COLL_SEND;

	if (call->counts) {
		elements = 0;
		for (int r = 0; r < comm->size; r++)
			elements += call->counts[r];
	} else if (blocks)
		elements *= (uint64_t)comm->size;
	return elements * rdt_type_size(call->type);
}

void rdt_trace_record(rdt_comm *comm, const struct rdt_call *call,
		      const struct rdt_algorithm *algorithm, int64_t from)
{
	struct event *e = next(comm->trace);
	const char *name = rdt_collective_name(call->collective);
	size_t n;

	if (call->collective == RDT_COLL_SEND && call->root != comm->rank)
		name = "recv";
	n = strlen(name) + 1;
	*e = (struct event){
		.from = from,
		.to = rdt_now(),
		.bytes = bytes_of(comm, call),
		.kind = OPERATION,
		.type = (uint8_t)call->type,
		.comm = (uint16_t)comm->trace_number,
	};
	memcpy(e->name, name, n);
	snprintf(e->name + n, NAME - n, "%s", algorithm ? algorithm->name : "");
}

static void record_span(rdt_comm *comm, enum kind kind, const char *name)
{
	int64_t which = (int64_t)comm->trace->recorded;
	struct event *e = next(comm->trace);

	*e = (struct event){
		.from = rdt_now(),
		.to = which,
		.kind = (uint8_t)kind,
		.comm = (uint16_t)comm->trace_number,
	};
	for (size_t i = 0; i + 1 < NAME && name[i]; i++)
		e->name[i] = name[i];
}

void rdt_trace_begin(rdt_comm *comm, const char *name)
{
	if (comm && comm->trace)
		record_span(comm, BEGIN, name ? name : "");
}

void rdt_trace_end(rdt_comm *comm)
{
	if (comm && comm->trace)
		record_span(comm, END, "");
}

/* ---- the file --------------------------------------------------------------------------------
 *
 * A process for the rank; in it, for each communicator, a row for the caller's spans and as many
 * for operations as were in flight side by side.
 */

#define ROW_OF(comm, row) ((comm) * (ROWS + 1) + (row))

static double microseconds(int64_t ns)
{
	return (double)ns / 1e3;
}

static void write_row_name(const struct rdt_trace *t, int comm, int row)
{
	char part[32] = "", side[32] = "";

	if (comm)
		snprintf(part, sizeof(part), ", part %d", comm);
	if (row > 1)
		snprintf(side, sizeof(side), " %d", row);
	fprintf(t->file,
		",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,"
		"\"args\":{\"name\":\"%s%s%s\"}}",
		t->rank, ROW_OF(comm, row), row ? "operations" : "caller", side, part);
}

static void write_operation(const struct rdt_trace *t, const struct event *e, int row)
{
	fprintf(t->file,
		",\n{\"ph\":\"X\",\"cat\":\"operation\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,"
		"\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"algorithm\":\"%s\",\"bytes\":%" PRIu64
		",\"type\":\"%s\"}}",
		e->name, t->rank, ROW_OF(e->comm, row), microseconds(e->from),
		microseconds(e->to - e->from), e->name + strlen(e->name) + 1, e->bytes,
		rdt_type_name((enum rdt_type)e->type));
}

static void write_span(const struct rdt_trace *t, const struct event *e)
{
	char name[NAME];
	size_t i;

	/* Plain characters only: a name may have been cut anywhere. */
	for (i = 0; e->name[i]; i++)
		name[i] = e->name[i];
	name[i] = '\0';
	for (i = 0; name[i]; i++)
		if (name[i] < ' ' || name[i] > '~' || name[i] == '"' || name[i] == '\\')
			name[i] = '?';
	fprintf(t->file,
		",\n{\"ph\":\"%s\",\"cat\":\"caller\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,"
		"\"ts\":%.3f}",
		e->kind == BEGIN ? "B" : "E", name, t->rank, ROW_OF(e->comm, 0),
		microseconds(e->from));
}

static int by_begin(const void *a, const void *b)
{
	const struct event *left = a, *right = b;

	if (left->comm != right->comm)
		return left->comm < right->comm ? -1 : 1;
	if (left->from != right->from)
		return left->from < right->from ? -1 : 1;
	return left->to < right->to ? -1 : left->to > right->to;
}

/* Each operation goes to the first row that is free when it begins. */
static void write_events(const struct rdt_trace *t, size_t n)
{
	int64_t free_at[ROWS + 1];
	int rows = 0, comm = -1;

	qsort(t->ring, n, sizeof(*t->ring), by_begin);
	for (size_t i = 0; i < n; i++) {
		const struct event *e = &t->ring[i];
		int row = 1;

		if (e->comm != comm) {
			comm = e->comm;
			rows = 0;
			write_row_name(t, comm, 0);
		}
		if (e->kind != OPERATION) {
			write_span(t, e);
			continue;
		}
		while (row <= rows && row < ROWS && free_at[row] > e->from)
			row++;
		if (row > rows) {
			rows = row;
			write_row_name(t, comm, row);
		}
		free_at[row] = e->to;
		write_operation(t, e, row);
	}
}

static void write_file(struct rdt_trace *t)
{
	uint64_t lost = t->recorded > EVENTS ? t->recorded - EVENTS : 0;
	char host[HOST_NAME_MAX + 1] = "";
	struct timespec wall;

	gethostname(host, sizeof(host) - 1);
	clock_gettime(CLOCK_REALTIME, &wall);
	/* ts is the host's monotonic clock, the same for all ranks of the host. */
	fprintf(t->file,
		"{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"host\":\"%s\",\"rank\":%d,\"size\":"
		"%d,"
		"\"events_lost\":%" PRIu64 ",\"wall_clock_minus_ts_ns\":%" PRId64
		"},\n\"traceEvents\":[\n"
		"{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank "
		"%d\"}},\n"
		"{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,\"args\":{\"sort_index\":"
		"%d}}",
		host, t->rank, t->size, lost,
		(int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec - rdt_now(), t->rank, t->rank,
		t->rank, t->rank);
	write_events(t, t->recorded > EVENTS ? EVENTS : (size_t)t->recorded);
	fprintf(t->file, "\n]}\n");
	if (lost)
		rdt_warn("RDTRAIN_TRACE: %s has the last %d events; %" PRIu64 " before were lost",
			 t->path, EVENTS, lost);
}

void rdt_trace_close(struct rdt_trace *trace)
{
	bool owner;

	if (!trace || atomic_fetch_sub(&trace->users, 1) > 1)
		return;
	owner = trace->owner == getpid();
	if (owner)
		write_file(trace);
	if ((ferror(trace->file) | fclose(trace->file)) && owner)
		rdt_warn("RDTRAIN_TRACE: could not write all of %s", trace->path);
	free(trace->ring);
	free(trace);
}
