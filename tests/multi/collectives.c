/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What random drawing (property.c) may miss: every collective among 1, 2, 3, 5 and 7 ranks with odd
 * lengths, in place and not; parts used side by side; the bits of floating-point sums; and, with
 * RDTRAIN_TEST_LARGE=1, a message of more than 4 GiB.
 */
#include "ranks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collectives/algorithms.h"

#include "calls.h"
#include "patterns.h"

enum { N_MAX = 8, BYTES = 9001, WAYS = 3 };

static const int sizes[] = { 1, 2, 3, 5, 7 };
#define EACH_SIZE(n)                                                                               \
	for (size_t i_ = 0, n = 0;                                                                 \
	     i_ < sizeof(sizes) / sizeof(sizes[0]) && (n = (size_t)sizes[i_]); i_++)

static bool is_verbs(void)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");

	return transport && strcmp(transport, "verbs") == 0;
}

/* ---- every collective, of int8 ------------------------------------------------------------------
 */

/* One call of `count` bytes, or of blocks by `counts`, and where its parts lie. */
struct job {
	struct test_call call;
	int rank, n;
	size_t counts[N_MAX], out_counts[N_MAX];
	size_t before; /* this rank's block in the blocks of all */
	size_t in_bytes, out_bytes;
	struct pattern pattern;
};

/* What rank i sends to rank k in an alltoallv; with `even`, what it gets. */
static size_t between(int i, int k, size_t count, bool even)
{
	return even ? (size_t)((i + k) % 3) * (count / 2) + (size_t)(i * k % 2)
		    : (size_t)((i + 2 * k) % 3) * (count / 2) + (size_t)(k % 2);
}

static bool has_counts(enum test_kind kind)
{
	return kind == TEST_REDUCE_SCATTERV || kind == TEST_ALLGATHERV || kind == TEST_GATHERV ||
	       kind == TEST_SCATTERV;
}

static void set_up(struct job *j, enum test_kind kind, int rank, int n, size_t count, int root,
		   bool even)
{
	bool reduces = kind == TEST_ALLREDUCE || kind == TEST_REDUCE_SCATTER ||
		       kind == TEST_REDUCE_SCATTERV || kind == TEST_REDUCE;
	size_t all = 0, mine, sent = 0, received = 0;

	*j = (struct job){ .rank = rank,
			   .n = n,
			   .call = { .kind = kind,
				     .count = count,
				     .type = RDT_INT8,
				     .op = RDT_SUM,
				     .root = root },
			   .pattern = { .type = RDT_INT8,
					.op = RDT_SUM,
					.reduces = reduces,
					.salt = (uint32_t)(count * 31 + (size_t)kind) } };
	for (int i = 0; i < n; i++) {
		/* 0 here and there, all others different */
		j->counts[i] = !has_counts(kind) ? count : i % 3 == 2 ? 0 : count + (size_t)i;
		if (i < rank)
			j->before += j->counts[i];
		all += j->counts[i];
		sent += between(rank, i, count, even);
		received += between(i, rank, count, even);
	}
	mine = j->counts[rank];
	switch (kind) {
	case TEST_ALLREDUCE: j->in_bytes = j->out_bytes = count; break;
	case TEST_REDUCE_SCATTER:
	case TEST_REDUCE_SCATTERV:
		j->in_bytes = all;
		j->out_bytes = mine;
		break;
	case TEST_ALLGATHER:
	case TEST_ALLGATHERV:
		j->in_bytes = mine;
		j->out_bytes = all;
		break;
	case TEST_BROADCAST: j->out_bytes = count; break;
	case TEST_REDUCE:
		j->in_bytes = count;
		j->out_bytes = rank == root ? count : 0;
		break;
	case TEST_GATHER:
	case TEST_GATHERV:
		j->in_bytes = mine;
		j->out_bytes = rank == root ? all : 0;
		break;
	case TEST_SCATTER:
	case TEST_SCATTERV:
		j->in_bytes = rank == root ? all : 0;
		j->out_bytes = mine;
		break;
	case TEST_ALLTOALL: j->in_bytes = j->out_bytes = all; break;
	case TEST_ALLTOALLV:
		for (int i = 0; i < n; i++) {
			j->counts[i] = between(rank, i, count, even);
			j->out_counts[i] = between(i, rank, count, even);
		}
		j->in_bytes = sent;
		j->out_bytes = received;
		break;
	default: break;
	}
	j->call.counts = j->counts;
	j->call.out_counts = j->out_counts;
}

static size_t block_of(const struct job *j, int from, size_t count, bool even)
{
	return j->call.kind == TEST_ALLTOALLV ? between(from, j->rank, count, even)
					      : j->counts[from];
}

/* Where in rank `from`'s buffer the block for this rank begins. */
static size_t begins(const struct job *j, int from, size_t count, bool even)
{
	size_t sum = 0;

	for (int k = 0; k < j->rank; k++)
		sum += j->call.kind == TEST_ALLTOALLV  ? between(from, k, count, even)
		       : j->call.kind == TEST_ALLTOALL ? count
						       : 0;
	return sum;
}

static bool right(const struct job *j, const char *out, size_t count, bool even, int round)
{
	const struct pattern *p = &j->pattern;
	size_t at = 0;

	if (j->out_bytes == 0)
		return true;
	switch (j->call.kind) {
	case TEST_ALLREDUCE:
	case TEST_REDUCE: return pattern_check_sum(p, out, 0, count, j->n, round) == count;
	case TEST_REDUCE_SCATTER:
	case TEST_REDUCE_SCATTERV:
		return pattern_check_sum(p, out, j->before, j->out_bytes, j->n, round) ==
		       j->out_bytes;
	case TEST_BROADCAST: return pattern_check(p, out, 0, count, j->call.root, round) == count;
	case TEST_SCATTER:
	case TEST_SCATTERV:
		return pattern_check(p, out, j->before, j->out_bytes, j->call.root, round) ==
		       j->out_bytes;
	default:
		for (int i = 0; i < j->n; i++) {
			size_t length = block_of(j, i, count, even);

			if (pattern_check(p, out + at, begins(j, i, count, even), length, i,
					  round) != length)
				return false;
			at += length;
		}
		return at == j->out_bytes;
	}
}

static bool can_be_in_place(const struct job *j, bool even)
{
	switch (j->call.kind) {
	case TEST_BROADCAST:
	case TEST_BARRIER: return false;
	case TEST_ALLTOALLV: return even;
	case TEST_REDUCE:
	case TEST_GATHER:
	case TEST_GATHERV:
	case TEST_SCATTER:
	case TEST_SCATTERV: return j->rank == j->call.root;
	default: return true;
	}
}

/* Where `in` and `out` lie when one buffer is both. */
static void put_in_place(const struct job *j, char *buffer, char **in, char **out)
{
	*in = *out = buffer;
	switch (j->call.kind) {
	case TEST_REDUCE_SCATTER:
	case TEST_REDUCE_SCATTERV:
	case TEST_SCATTER:
	case TEST_SCATTERV: *out += j->before; break;
	case TEST_ALLGATHER:
	case TEST_ALLGATHERV:
	case TEST_GATHER:
	case TEST_GATHERV: *in += j->before; break;
	default: break;
	}
}

static int one_job(rdt_comm *comm, struct job *j, size_t count, bool even, bool in_place,
		   enum test_form form, char *a, char *b, int round)
{
	char *in = a, *out = b;

	if (in_place && can_be_in_place(j, even))
		put_in_place(j, a, &in, &out);
	memset(out, 0x5e, j->out_bytes);
	if (j->call.kind == TEST_BROADCAST && j->rank == j->call.root)
		pattern_fill(&j->pattern, out, 0, count, j->rank, round);
	pattern_fill(&j->pattern, in, 0, j->in_bytes, j->rank, round);
	j->call.in = in;
	j->call.out = out;
	RANK_CHECK(test_run(comm, &j->call, form) == 0);
	RANK_CHECK(right(j, out, count, even, round));
	if (out == b)
		RANK_CHECK(pattern_check(&j->pattern, in, 0, j->in_bytes, j->rank, round) ==
			   j->in_bytes);
	return 0;
}

static int every_collective(int rank, int n, void *arg)
{
	static const size_t lengths[] = { 1, 3, 7, 255, 1001, BYTES };
	size_t room = (size_t)(N_MAX + 1) * (BYTES + N_MAX);
	int round = 0;
	void *mapped[2];
	char *plain[2];
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int i = 0; i < 2; i++) {
		plain[i] = malloc(room);
		RANK_CHECK(rdt_alloc(comm, room, &mapped[i]) == 0);
	}
	for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
		for (int kind = 0; kind < TEST_COLLECTIVES; kind++)
			for (int way = 0; way < 4; way++) {
				struct job job;
				bool in_place = way & 1, even = way & 1;
				/* Plans over memory that peers can reach, all else over any. */
				bool plan = way & 2;
				enum test_form form =
					plan ? TEST_PLAN : (enum test_form)(round % 2);

				if (is_verbs() && (l + (size_t)kind) % 2 != (size_t)plan)
					continue; /* emulated: half of it */
				set_up(&job, (enum test_kind)kind, rank, n, lengths[l],
				       (kind + way) % n, even);
				if (one_job(comm, &job, lengths[l], even, in_place, form,
					    plan ? mapped[0] : plain[0],
					    plan ? mapped[1] : plain[1], round++)) {
					fprintf(stderr, "%s of %zu, n=%d, %s%s\n",
						test_kind_name(job.call.kind), lengths[l], n,
						test_form_name(form), in_place ? ", in place" : "");
					return 1;
				}
			}
	for (int i = 0; i < 2; i++) {
		free(plain[i]);
		RANK_CHECK(rdt_free(comm, mapped[i]) == 0);
	}
	rdt_comm_destroy(comm);
	return 0;
}

static void every_collective_of_odd_lengths_is_right(void **state)
{
	(void)state;
	EACH_SIZE(n)
	assert_true(ranks_run((int)n, 120, every_collective, NULL));
}

/* ---- parts side by side ------------------------------------------------------------------------
 */

enum { PARTS = 3, COUNT = 3001 };

/* The whole, its halves, and halves of those with the numbers turned round. */
static int split_up(rdt_comm *whole, int rank, int n, rdt_comm *comm[PARTS])
{
	comm[0] = whole;
	RANK_CHECK(rdt_comm_split(whole, rank % 2, 0, &comm[1]) == 0);
	RANK_CHECK(rdt_comm_size(comm[1]) == (n + !(rank % 2)) / 2);
	RANK_CHECK(rdt_comm_split(comm[1], 7, -rank, &comm[2]) == 0);
	RANK_CHECK(rdt_comm_rank(comm[2]) == rdt_comm_size(comm[1]) - 1 - rdt_comm_rank(comm[1]));
	return 0;
}

static int side_by_side(int rank, int n, void *arg)
{
	enum { EACH = 4 };
	static int32_t v[PARTS][EACH][COUNT];
	rdt_request *request[PARTS][EACH];
	rdt_comm *comm[PARTS];
	const struct pattern p = { .type = RDT_INT32, .op = RDT_SUM, .reduces = true };
	bool polls = *(const bool *)arg;

	RANK_CHECK(rdt_comm_create(NULL, &comm[0]) == 0);
	if (split_up(comm[0], rank, n, comm))
		return 1;
	for (int round = 0; round < 10; round++) {
		int left = PARTS * EACH;

		for (int k = 0; k < PARTS * EACH; k++) {
			/* In turn, or one communicator after the other. */
			int c = round % 2 ? k % PARTS : k / EACH;
			int slot = round % 2 ? k / PARTS : k % EACH;
			int32_t *vector = v[c][slot];

			pattern_fill(&p, vector, 0, COUNT, rdt_comm_rank(comm[c]), round + slot);
			RANK_CHECK(rdt_allreduce_start(comm[c], vector, vector,
						       COUNT - (size_t)(slot % 2), RDT_INT32,
						       RDT_SUM, &request[c][slot]) == 0);
		}
		/* Waiting moves one communicator on, so all ranks wait for them in the same order;
		 * for the operations of one, each in its own. */
		for (int c = 0; c < PARTS && !polls; c++)
			for (int k = 0; k < EACH; k++)
				RANK_CHECK(
					rdt_wait(request[(c + round) % PARTS][(k + rank) % EACH]) ==
					0);
		/* Who asks moves them all on, and may ask in any order. */
		for (int i = rank; left && polls; i++) {
			rdt_request **r = &request[i * 5 % PARTS][i / PARTS % EACH];
			int done = 0;

			if (!*r)
				continue;
			RANK_CHECK(rdt_test(*r, &done) == 0);
			if (done) {
				*r = NULL;
				left--;
			}
		}
		for (int c = 0; c < PARTS; c++)
			for (int k = 0; k < EACH; k++) {
				size_t count = COUNT - (size_t)(k % 2);

				RANK_CHECK(pattern_check_sum(&p, v[c][k], 0, count,
							     rdt_comm_size(comm[c]),
							     round + k) == count);
			}
	}
	/* The whole may go before its parts. */
	for (int c = 0; c < PARTS; c++)
		rdt_comm_destroy(comm[n % 2 ? c : PARTS - 1 - c]);
	return 0;
}

static void parts_are_used_side_by_side(void **state)
{
	(void)state;
	for (int polls = 0; polls < 2; polls++)
		EACH_SIZE(n)
	assert_true(ranks_run((int)n, 120, side_by_side, &(bool){ polls }));
}

/* Before one ends what others may still be in: it need not be over for all when it is for one. */
static void meet(int *met, int all)
{
	__atomic_fetch_add(met, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(met, __ATOMIC_ACQUIRE) < all)
		usleep(50);
}

/* A failure of a part is none of the whole, and the other way round. */
static int one_fails(int rank, int n, void *arg)
{
	int *met = ranks_shared();
	rdt_comm *whole, *part;
	float v[4] = { 0 };

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &whole) == 0);
	RANK_CHECK(rdt_comm_split(whole, 0, 0, &part) == 0);
	RANK_CHECK(rdt_barrier(part) == 0);
	meet(met, n);
	if (rank == n - 1)
		RANK_CHECK(rdt_comm_abort(part) == 0);
	else
		RANK_CHECK(rdt_barrier(part) == RDT_ERR_ABORTED);
	RANK_CHECK(rdt_allreduce(whole, v, v, 4, RDT_FLOAT32, RDT_SUM) == 0);
	rdt_comm_destroy(part);
	RANK_CHECK(rdt_comm_split(whole, rank % 2 ? -1 : 0, 0, &part) == 0);
	RANK_CHECK(!part == (rank % 2 == 1));
	meet(met, 2 * n);
	if (rank == 0)
		RANK_CHECK(rdt_comm_abort(whole) == 0);
	else
		RANK_CHECK(rdt_barrier(whole) == RDT_ERR_ABORTED);
	if (part)
		RANK_CHECK(rdt_allreduce(part, v, v, 4, RDT_FLOAT32, RDT_SUM) == 0);
	rdt_comm_destroy(whole);
	if (part)
		RANK_CHECK(rdt_barrier(part) == 0);
	rdt_comm_destroy(part);
	return 0;
}

static void a_part_fails_alone(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, one_fails, NULL));
	assert_true(ranks_run(4, 60, one_fails, NULL));
}

/* ---- bits --------------------------------------------------------------------------------------
 */

/* An allreduce; over mapped memory, by a plan; a reduce and its broadcast; a reduce-scatter put
 * together. In the order of ranks the first three are equal. */
enum { PLAIN, MAPPED, REDUCED, SCATTERED, SUMS };

static struct bits {
	uint64_t hash[SUMS][N_MAX]; /* of each rank's results */
} * bits;

static const size_t vector_lengths[] = { 9, 1003, 40009 };

struct setting {
	int n, layout; /* one host, two halves, in turn */
	enum rdt_op op;
};

/* Reciprocals in widely different sizes: hardly any two orders give the same float32. */
static void fill_badly(float *v, size_t count, int rank)
{
	for (size_t i = 0; i < count; i++)
		v[i] = ldexpf(1.0f / (float)(1 + rank * 31 + (int)i % 1009),
			      (rank * 5 + (int)i) % 7) *
		       (i % 3 ? 1.0f : -1.0f);
}

static void add_hash(int what, int rank, const float *v, size_t count)
{
	const unsigned char *byte = (const unsigned char *)v;
	uint64_t hash = bits->hash[what][rank];

	for (size_t i = 0; i < count * sizeof(*v); i++)
		hash = (hash ^ byte[i]) * 1099511628211u;
	bits->hash[what][rank] = hash;
}

static int sums_of(rdt_comm *comm, int rank, int n, size_t count, enum rdt_op op)
{
	size_t bytes = count * sizeof(float), all = bytes * (size_t)n;
	float *in = malloc(all), *out = malloc(all), *again = malloc(all);
	int root = (int)count % n;
	rdt_plan *plan;
	void *mapped;

	fill_badly(in, count * (size_t)n, rank);
	RANK_CHECK(rdt_allreduce(comm, in, out, count, RDT_FLOAT32, op) == 0);
	RANK_CHECK(rdt_allreduce(comm, in, again, count, RDT_FLOAT32, op) == 0);
	RANK_CHECK(memcmp(out, again, bytes) == 0);
	add_hash(PLAIN, rank, out, count);

	RANK_CHECK(rdt_alloc(comm, bytes, &mapped) == 0);
	RANK_CHECK(rdt_allreduce_plan(comm, mapped, mapped, count, RDT_FLOAT32, op, &plan) == 0);
	memcpy(mapped, in, bytes);
	RANK_CHECK(rdt_plan_start(plan) == 0 && rdt_plan_wait(plan) == 0);
	add_hash(MAPPED, rank, mapped, count);
	rdt_plan_destroy(plan);
	RANK_CHECK(rdt_free(comm, mapped) == 0);

	RANK_CHECK(rdt_reduce(comm, in, out, count, RDT_FLOAT32, op, root) == 0);
	RANK_CHECK(rdt_broadcast(comm, out, count, RDT_FLOAT32, root) == 0);
	add_hash(REDUCED, rank, out, count);

	RANK_CHECK(rdt_reduce_scatter(comm, in, out, count, RDT_FLOAT32, op) == 0);
	RANK_CHECK(rdt_allgather(comm, out, again, count, RDT_FLOAT32) == 0);
	add_hash(SCATTERED, rank, again, count * (size_t)n);
	free(in);
	free(out);
	free(again);
	return 0;
}

static int sums(int rank, int n, void *arg)
{
	const struct setting *s = arg;
	char host[32];
	rdt_comm *comm;

	snprintf(host, sizeof(host), "bits-%d",
		 s->layout == 0	  ? 0
		 : s->layout == 1 ? rank * 2 / n
				  : rank % 2);
	setenv("RDTRAIN_HOST_ID", host, 1);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	for (int what = 0; what < SUMS; what++)
		bits->hash[what][rank] = 14695981039346656037u;
	for (size_t l = 0; l < sizeof(vector_lengths) / sizeof(vector_lengths[0]); l++)
		if (sums_of(comm, rank, n, vector_lengths[l] / (is_verbs() ? 4 : 1), s->op))
			return 1;
	rdt_comm_destroy(comm);
	return 0;
}

/* Runs it, and leaves the hashes of the last run in *to: all ranks' are the same. */
static void run_sums(const struct setting *s, struct bits *to)
{
	assert_true(ranks_run(s->n, 100, sums, (void *)s));
	*to = *bits;
	for (int c = 0; c < SUMS; c++)
		for (int r = 1; r < s->n; r++)
			assert_true(to->hash[c][r] == to->hash[c][0]);
}

static void sums_have_the_same_bits_from_run_to_run(void **state)
{
	(void)state;
	for (int n = 2; n < N_MAX; n += 2)
		for (int layout = 0; layout < WAYS; layout++) {
			struct setting s = { n, is_verbs() ? 0 : layout, RDT_SUM };
			struct bits once, again;

			if (is_verbs() && (layout || n > 4))
				continue;
			run_sums(&s, &once);
			run_sums(&s, &again);
			for (int c = 0; c < SUMS; c++)
				assert_true(once.hash[c][0] == again.hash[c][0]);
		}
}

static const enum rdt_collective summing[] = { RDT_COLL_ALLREDUCE, RDT_COLL_REDUCE_SCATTER,
					       RDT_COLL_REDUCE };

static const char *variable_of(enum rdt_collective c)
{
	return c == RDT_COLL_ALLREDUCE	      ? "RDTRAIN_ALLREDUCE"
	       : c == RDT_COLL_REDUCE_SCATTER ? "RDTRAIN_REDUCE_SCATTER"
					      : "RDTRAIN_REDUCE";
}

/* With RDTRAIN_RANK_ORDER=1: forced algorithms, layouts, windows, memory, all the same. */
static void sums_in_the_order_of_ranks_have_the_same_bits_always(void **state)
{
	struct bits reference, other;
	bool verbs = is_verbs();

	(void)state;
	setenv("RDTRAIN_RANK_ORDER", "1", 1);
	for (int n = 3; n < N_MAX && !(verbs && n > 4); n += 2)
		for (enum rdt_op op = RDT_SUM; op <= RDT_AVG; op++) {
			run_sums(&(struct setting){ n, 0, op }, &reference);
			for (int layout = 0; layout < (verbs ? 1 : WAYS); layout++)
				for (const struct rdt_algorithm *a = rdt_algorithms; a->name; a++) {
					const struct setting s = { n, layout, op };
					bool sums_up = false;

					for (int c = 0; c < 3; c++)
						sums_up |= summing[c] == a->collective;
					/* board and direct are for one host, unchecked */
					if (!sums_up || !(a->flags & RDT_ALG_RANK_ORDER) ||
					    (a->applies && (layout || verbs || ranks_checked())))
						continue;
					setenv(variable_of(a->collective), a->name, 1);
					if (layout)
						setenv("RDTRAIN_WINDOW", "8192", 1);
					run_sums(&s, &other);
					unsetenv(variable_of(a->collective));
					unsetenv("RDTRAIN_WINDOW");
					for (int c = 0; c < SUMS; c++)
						assert_true(other.hash[c][0] ==
							    reference.hash[c][0]);
				}
		}
	unsetenv("RDTRAIN_RANK_ORDER");
}

/* Or the two tests above would say nothing. */
static void the_order_matters_for_these_values(void **state)
{
	struct bits ordered, ring;
	const struct setting s = { 5, 0, RDT_SUM };

	(void)state;
	if (is_verbs())
		return; /* it says nothing about the transport */
	setenv("RDTRAIN_RANK_ORDER", "1", 1);
	run_sums(&s, &ordered);
	unsetenv("RDTRAIN_RANK_ORDER");
	setenv("RDTRAIN_ALLREDUCE", "ring", 1);
	run_sums(&s, &ring);
	unsetenv("RDTRAIN_ALLREDUCE");
	assert_true(ordered.hash[PLAIN][0] != ring.hash[PLAIN][0]);
	assert_true(ordered.hash[PLAIN][0] == ordered.hash[REDUCED][0]);
	assert_true(ordered.hash[PLAIN][0] == ordered.hash[MAPPED][0]);
}

/* ---- more than 4 GiB ----------------------------------------------------------------------------
 */

static int large(int rank, int n, void *arg)
{
	const size_t count = ((size_t)4 << 30) + 3;
	const struct pattern p = { .type = RDT_INT8, .salt = 7 };
	rdt_comm *comm;
	void *v;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_alloc(comm, count, &v) == 0);
	if (rank == 0)
		pattern_fill(&p, v, 0, count, 0, 0);
	RANK_CHECK(rdt_broadcast(comm, v, count, RDT_INT8, 0) == 0);
	if (rank != 0)
		RANK_CHECK(pattern_check(&p, v, 0, count, 0, 0) == count);
	RANK_CHECK(rdt_free(comm, v) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void more_than_4_gib_arrive(void **state)
{
	const char *wanted = getenv("RDTRAIN_TEST_LARGE");

	(void)state;
	if (!wanted || strcmp(wanted, "1") != 0)
		skip();
	assert_true(ranks_run(2, 280, large, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_collective_of_odd_lengths_is_right),
		cmocka_unit_test(parts_are_used_side_by_side),
		cmocka_unit_test(a_part_fails_alone),
		cmocka_unit_test(sums_have_the_same_bits_from_run_to_run),
		cmocka_unit_test(sums_in_the_order_of_ranks_have_the_same_bits_always),
		cmocka_unit_test(the_order_matters_for_these_values),
		cmocka_unit_test(more_than_4_gib_arrive),
	};

	ranks_need_device();
	/* Hosts are played by RDTRAIN_HOST_ID: only where shm is asked for is that no hindrance. */
	setenv("RDTRAIN_TRANSPORT", is_verbs() ? "verbs" : "shm", 1);
	bits = mmap(NULL, sizeof(*bits), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bits == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
