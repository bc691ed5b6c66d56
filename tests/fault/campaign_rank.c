/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rank of the campaign: operation after operation until one fails, each result verified; then
 * what the failure left: the error, the lost ranks, the input, descriptors and queue pairs. It
 * knows nothing of who is to be killed, or when.
 */
#include "campaign.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"

#define SHRINK_DEADLINES 2
#define SECRET "the secret of the campaign"

struct state {
	const struct campaign_options *options;
	const struct campaign_case *c;
	struct campaign_rank *r;
	int rank;
	rdt_comm *comm;
	size_t blocks; /* of `count` elements in a buffer */
	float *in, *out;
	rdt_mem *mem_in, *mem_out;
	rdt_plan *plan;
	bool in_place;
};

/* ---- what is left ---------------------------------------------------------------------------- */

/* Descriptors of this process, without those that librdmacm keeps for good. */
static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir))) {
		char path[300], target[256];
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		n += !strstr(target, "infiniband");
	}
	if (dir)
		closedir(dir);
	return n;
}

/* ---- buffers and operations ------------------------------------------------------------------
 */

/* Whole numbers, so that every sum is exact. */
static float value(int rank, int to, size_t i, int round)
{
	return (float)((rank + 1) * (int)(1 + (i + (size_t)round) % 7) + 16 * to);
}

static float expected(const struct state *s, bool alltoall, int block, size_t i, int round)
{
	int n = s->c->n;

	if (alltoall)
		return value(block, s->rank, i, round);
	return (float)(n * (n + 1) / 2 * (int)(1 + (i + (size_t)round) % 7));
}

static void fill(const struct state *s, size_t count, bool alltoall, int round)
{
	for (size_t b = 0; b < (alltoall ? s->blocks : 1); b++)
		for (size_t i = 0; i < count; i++)
			s->in[b * count + i] = value(s->rank, (int)b, i, round);
}

static uint32_t wrong(const struct state *s, const float *out, size_t count, bool alltoall,
		      int round)
{
	uint32_t n = 0;

	for (size_t b = 0; b < (alltoall ? s->blocks : 1); b++)
		for (size_t i = 0; i < count; i++)
			n += out[b * count + i] != expected(s, alltoall, (int)b, i, round);
	return n;
}

static bool input_changed(const struct state *s, size_t count, bool alltoall, int round)
{
	for (size_t b = 0; b < (alltoall ? s->blocks : 1); b++)
		for (size_t i = 0; i < count; i++)
			if (s->in[b * count + i] != value(s->rank, (int)b, i, round))
				return true;
	return false;
}

/* Of each buffer. In the phase of plans, counts grow from round to round. */
static size_t buffer_bytes(const struct state *s)
{
	return s->blocks * (s->c->count + 4096) * sizeof(float);
}

static int get_buffer(struct state *s, float **buffer, rdt_mem **mem)
{
	size_t bytes = buffer_bytes(s);
	int status = 0;

	if (s->c->memory == MEMORY_ALLOC)
		return rdt_alloc(s->comm, bytes, (void **)buffer);
	*buffer = calloc(1, bytes);
	if (!*buffer)
		return RDT_ERR_NOMEM;
	if (s->c->memory == MEMORY_REGISTER)
		status = rdt_mem_register(s->comm, *buffer, bytes, mem);
	return status;
}

static void drop_buffer(struct state *s, float *buffer, rdt_mem *mem)
{
	rdt_mem_deregister(mem);
	if (s->c->memory == MEMORY_ALLOC)
		rdt_free(s->comm, buffer);
	else
		free(buffer);
}

/* Also says what is being done, and since when. */
static void doing(struct state *s, const char *what)
{
	snprintf(s->r->doing, sizeof(s->r->doing), "%s", what);
	s->r->called_at = rdt_now();
}

static int make_plan(struct state *s, size_t count, bool alltoall, float *out, rdt_plan **plan)
{
	doing(s, "making a plan");
	return alltoall
		       ? rdt_alltoall_plan(s->comm, s->in, out, count, RDT_FLOAT32, plan)
		       : rdt_allreduce_plan(s->comm, s->in, out, count, RDT_FLOAT32, RDT_SUM, plan);
}

static int run_plan(struct state *s, rdt_plan *plan)
{
	int status;

	doing(s, "running a plan");
	status = rdt_plan_start(plan);
	return status ? status : rdt_plan_wait(plan);
}

static int run_plain(struct state *s, size_t count, bool alltoall, float *out)
{
	rdt_request *request;
	int status, done = 0;

	doing(s, "in a plain call");
	if (s->c->form == FORM_BLOCKING)
		return alltoall ? rdt_alltoall(s->comm, s->in, out, count, RDT_FLOAT32)
				: rdt_allreduce(s->comm, s->in, out, count, RDT_FLOAT32, RDT_SUM);
	status = alltoall ? rdt_alltoall_start(s->comm, s->in, out, count, RDT_FLOAT32, &request)
			  : rdt_allreduce_start(s->comm, s->in, out, count, RDT_FLOAT32, RDT_SUM,
						&request);
	while (!status && !done)
		status = rdt_test(request, &done);
	return status;
}

static int one_operation(struct state *s, size_t count, bool alltoall, int round)
{
	float *out = s->in_place ? s->in : s->out;
	rdt_plan *plan = s->plan;
	bool anew = s->c->phase == PHASE_PLAN && s->c->form == FORM_PLAN;
	int status = 0;

	fill(s, count, alltoall, round);
	if (s->c->form == FORM_PLAN) {
		if (!plan)
			status = make_plan(s, count, alltoall, out, &plan);
		if (!anew)
			s->plan = plan;
		if (!status)
			status = run_plan(s, plan);
		if (anew)
			rdt_plan_destroy(plan);
	} else {
		status = run_plain(s, count, alltoall, out);
	}
	if (status) {
		if (!s->in_place)
			s->r->input_changed = input_changed(s, count, alltoall, round);
		return status;
	}
	s->r->operations++;
	s->r->wrong += wrong(s, out, count, alltoall, round);
	return 0;
}

/* Until one fails. */
static int operations(struct state *s)
{
	size_t count = s->c->count;
	bool alltoall = s->c->phase == PHASE_ALLTOALL;
	int status = 0;

	if (s->c->phase == PHASE_START)
		count = 63;
	__atomic_store_n(&s->r->ready, 1, __ATOMIC_RELEASE);
	for (int round = 0; !status; round++) {
		/* Of plans, another one each time. */
		if (s->c->phase == PHASE_PLAN) {
			count = s->c->count + (size_t)(round % 4096);
			alltoall = round % 3 == 2;
		}
		status = one_operation(s, count, alltoall, round);
	}
	return status;
}

/* ---- a rank's life ---------------------------------------------------------------------------
 */

static void note_error(struct state *s, int status)
{
	struct campaign_rank *r = s->r;
	int lost[CAMPAIGN_RANKS], n;

	r->status = status;
	r->began_at = r->called_at;
	__atomic_store_n(&r->error_at, rdt_now(), __ATOMIC_RELEASE);
	snprintf(r->text, sizeof(r->text), "%s", rdt_last_error());
	n = rdt_comm_lost(s->comm, lost, CAMPAIGN_RANKS);
	for (int i = 0; i < n; i++)
		r->lost |= 1ull << lost[i];
}

/* Buffers that the library has given back are nobody else's: what is in them stays. */
static bool is_as_left(const struct state *s)
{
	const unsigned char *in = (const unsigned char *)s->in,
			    *out = (const unsigned char *)s->out;

	for (size_t i = 0; i < buffer_bytes(s); i++)
		if (in[i] != 0x5a || out[i] != 0x5a)
			return false;
	return true;
}

static int sum_among(struct state *s, rdt_comm *comm, int round)
{
	enum { COUNT = 5003 };
	int n = rdt_comm_size(comm), rank = rdt_comm_rank(comm), status = 0;
	float *v = NULL;

	if (s->c->memory == MEMORY_ALLOC)
		status = rdt_alloc(comm, COUNT * sizeof(*v), (void **)&v);
	else
		v = calloc(COUNT, sizeof(*v));
	if (status || !v)
		return status ? status : RDT_ERR_NOMEM;
	for (size_t i = 0; i < COUNT; i++)
		v[i] = value(rank, 0, i, round);
	status = rdt_allreduce(comm, v, v, COUNT, RDT_FLOAT32, RDT_SUM);
	for (size_t i = 0; !status && i < COUNT; i++)
		s->r->wrong +=
			v[i] != (float)(n * (n + 1) / 2 * (int)(1 + (i + (size_t)round) % 7));
	if (s->c->memory == MEMORY_ALLOC)
		rdt_free(comm, v);
	else
		free(v);
	return status;
}

/* Goes on without the lost. In the phase of shrink another one is lost on the way, or after it:
 * then once more. */
static void recover(struct state *s)
{
	int target = s->c->n - (s->c->phase == PHASE_SHRINK ? 2 : 1), status, size = 0;
	rdt_comm *comm = s->comm, *next;
	bool first = true;

	do {
		doing(s, "shrinking");
		status = rdt_comm_shrink(comm, &next);
		if (comm != s->comm)
			rdt_comm_destroy(comm);
		comm = next;
		if (status)
			break;
		if (first) {
			memset(s->in, 0x5a, buffer_bytes(s));
			memset(s->out, 0x5a, buffer_bytes(s));
		}
		first = false;
		size = rdt_comm_size(comm);
		doing(s, "summing among the survivors");
		for (int round = 0; !status && (round == 0 || size > target); round++)
			status = sum_among(s, comm, round);
	} while (status && size > target);
	s->r->recovered_at = rdt_now();
	s->r->next_status = status;
	s->r->next_size = size;
	if (status)
		snprintf(s->r->text, sizeof(s->r->text), "%s", rdt_last_error());
	s->r->stale = !first && !is_as_left(s);
	if (comm)
		rdt_comm_destroy(comm);
}

static int get_buffers(struct state *s)
{
	int status = get_buffer(s, &s->in, &s->mem_in);

	return status ? status : get_buffer(s, &s->out, &s->mem_out);
}

static void live(struct state *s, const struct rdt_options *options)
{
	int status;

	doing(s, "meeting the others");
	status = rdt_comm_create(options, &s->comm);
	if (status) {
		s->comm = NULL;
		note_error(s, status);
		s->r->again = status;
		return;
	}
	doing(s, "getting memory");
	status = get_buffers(s);
	if (!status)
		status = operations(s);
	note_error(s, status);
	doing(s, "in a call after the error");
	s->r->again = rdt_barrier(s->comm);

	/* Who was stopped is not to take part any more, unless it does not know yet. */
	if (s->rank != s->c->victim || s->c->phase == PHASE_SHRINK)
		recover(s);
	doing(s, "leaving");
	rdt_plan_destroy(s->plan);
	drop_buffer(s, s->in, s->mem_in);
	drop_buffer(s, s->out, s->mem_out);
	rdt_comm_destroy(s->comm);
}

void campaign_rank_main(const struct campaign_options *options, const struct campaign_case *c,
			struct campaign_shared *shared, int rank)
{
	char address[64];
	struct rdt_options o = { .size = sizeof(o),
				 .rank = rank,
				 .world = c->n,
				 .rendezvous = address,
				 .job = "campaign",
				 .secret = SECRET,
				 .transport = options->transport };
	struct state s = { .options = options, .c = c, .r = &shared->rank[rank], .rank = rank };
	bool stopped = c->fault == FAULT_STOP;
	int fds = count_fds();

	snprintf(address, sizeof(address), "%s:%d", options->address, shared->port);
	/* Of a death nobody is to learn by a deadline. */
	o.timeout_s = stopped ? options->deadline_s : options->limit_s;
	/* In a shrink, the deadline is also for the start of the next generation, of which there are
	 * two here; an emulated machine takes half a second for one. */
	if (stopped && c->phase == PHASE_SHRINK && options->pace > 1)
		o.timeout_s = SHRINK_DEADLINES * options->deadline_s;
	o.start_timeout_s = c->phase == PHASE_START ? options->start_deadline_s : options->limit_s;
	s.blocks = c->phase == PHASE_ALLTOALL || c->phase == PHASE_PLAN ? (size_t)c->n : 1;
	s.in_place = c->in_place;
	live(&s, &o);
	s.r->fds_left = count_fds() - fds;
	s.r->qps_left = options->transport && strcmp(options->transport, "shm") == 0
				? 0
				: campaign_queue_pairs(getpid());
	doing(&s, "ending");
	fflush(NULL);
	exit(0); /* not _exit: the leak checker reports at exit */
}
