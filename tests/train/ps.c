/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parameter server on a least-squares problem: each worker has samples of its own, and all of
 * them have the same solution. Synchronous training has the bits of one process; the other modes
 * come to the solution; staleness is bounded; killed workers and servers are survived.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <rdtrain/train.h>

#include "ranks.h"

/* ---- the problem ----------------------------------------------------------------------------- */

#define TENSORS 7
static const size_t sizes[TENSORS] = { 13, 1, 7, 0, 29, 3, 11 };
static const char *const names[TENSORS] = { "layer1.weight", "layer1.bias",   "layer2.weight",
					    "layer2.bias",   "layer3.weight", "layer3.bias",
					    "layer4.weight" };
#define DIM 64
#define SAMPLES 48 /* of each worker */

static double random_of(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(*seed >> 11) / 9007199254740992.0 - 0.5;
}

struct problem {
	double solution[DIM], x[SAMPLES][DIM], y[SAMPLES];
};

static void make_problem(struct problem *p, int worker)
{
	uint64_t seed = 42;

	for (int i = 0; i < DIM; i++)
		p->solution[i] = random_of(&seed);
	seed = 1000 + (uint64_t)worker;
	for (int s = 0; s < SAMPLES; s++) {
		p->y[s] = 0;
		for (int i = 0; i < DIM; i++) {
			p->x[s][i] = random_of(&seed);
			p->y[s] += p->x[s][i] * p->solution[i];
		}
	}
}

/* 1/m sum (x . theta - y) x */
static void gradient_of(const struct problem *p, const double *theta, double *gradient)
{
	memset(gradient, 0, DIM * sizeof(*gradient));
	for (int s = 0; s < SAMPLES; s++) {
		double error = -p->y[s];

		for (int i = 0; i < DIM; i++)
			error += p->x[s][i] * theta[i];
		for (int i = 0; i < DIM; i++)
			gradient[i] += error * p->x[s][i] / SAMPLES;
	}
}

static double distance(const struct problem *p, const double *theta)
{
	double sum = 0, length = 0;

	for (int i = 0; i < DIM; i++) {
		sum += (theta[i] - p->solution[i]) * (theta[i] - p->solution[i]);
		length += p->solution[i] * p->solution[i];
	}
	return sqrt(sum / length);
}

/* ---- a run ----------------------------------------------------------------------------------- */

struct run {
	enum rdt_ps_mode mode;
	uint64_t staleness;
	int servers, workers, steps;
	enum rdt_optimizer_kind optimizer;
	double rate;
	int kill_worker; /* this worker kills itself... */
	int kill_server; /* the first worker kills this server... */
	int at;		 /* ...at this step; -1 for either: nobody */
	bool slow;	 /* the last worker lets the others go ahead at that step */
	/* what comes of it, in memory that the test shares with the ranks */
	int status[RANKS_MAX];
	uint64_t pushed[RANKS_MAX], most_stale[RANKS_MAX];
	double theta[RANKS_MAX][DIM];
	char sentence[RANKS_MAX][256];
};

static struct rdt_ps_options options_of(const struct run *run)
{
	return (struct rdt_ps_options){
		.size = sizeof(struct rdt_ps_options),
		.servers = run->servers,
		.mode = run->mode,
		.staleness = run->staleness,
		.type = RDT_FLOAT64,
		.optimizer = { .kind = run->optimizer },
		.rate = { .base = run->rate },
		.timeout_s = 60,
	};
}

static void tensors_of(double *theta, struct rdt_ps_tensor *tensors)
{
	size_t at = 0;

	for (int i = 0; i < TENSORS; i++) {
		tensors[i] = (struct rdt_ps_tensor){ names[i], theta + at, sizes[i] };
		at += sizes[i];
	}
}

static bool is_killed(const struct run *run, int rank)
{
	return rank == run->kill_server ||
	       (run->kill_worker >= 0 && rank == run->servers + run->kill_worker);
}

/* Is no worker that is neither done nor killed more than the bound behind? */
static bool is_within_bound(const struct run *run, uint64_t pushed)
{
	for (int w = 0; w < run->workers; w++) {
		uint64_t other = __atomic_load_n(&run->pushed[run->servers + w], __ATOMIC_SEQ_CST);

		if (w != run->kill_worker && other + run->staleness < pushed)
			return false;
	}
	return true;
}

/* Have all but the last worker pushed so often? */
static bool are_ahead(const struct run *run, uint64_t pushed)
{
	for (int w = 0; w < run->workers - 1; w++)
		if (__atomic_load_n(&run->pushed[run->servers + w], __ATOMIC_SEQ_CST) < pushed)
			return false;
	return true;
}

static int work(struct run *run, rdt_ps *ps, int rank, double *theta)
{
	int worker = rank - run->servers;
	struct problem problem;
	double gradient[DIM];
	const void *gradients[TENSORS];
	size_t at = 0;
	int status = 0;

	make_problem(&problem, worker);
	for (int i = 0; i < TENSORS; i++) {
		gradients[i] = gradient + at;
		at += sizes[i];
	}
	for (int k = 0; k < run->steps; k++) {
		status = rdt_ps_pull(ps);
		if (status)
			return status;
		if (run->mode == RDT_PS_STALE)
			RANK_CHECK(is_within_bound(run, (uint64_t)k));
		if (rdt_ps_staleness(ps) > run->most_stale[rank])
			run->most_stale[rank] = rdt_ps_staleness(ps);
		if (worker == run->kill_worker && k == run->at)
			kill(getpid(), SIGKILL);
		if (worker == 0 && run->kill_server >= 0 && k == run->at)
			kill(ranks_pid(run->kill_server), SIGKILL);
		/* Until the others are as far ahead as they may be. */
		if (run->slow && worker == run->workers - 1 && k == run->at)
			while (!are_ahead(run, (uint64_t)k + run->staleness))
				usleep(100);
		gradient_of(&problem, theta, gradient);
		__atomic_store_n(&run->pushed[rank], (uint64_t)k + 1, __ATOMIC_SEQ_CST);
		status = rdt_ps_push(ps, gradients);
		if (status)
			return status;
		memset(gradient, 0x7f, sizeof(gradient)); /* it is ours again */
	}
	return rdt_ps_pull(ps);
}

static int take_part(int rank, int n, void *arg)
{
	struct run *run = arg;
	struct rdt_ps_options options = options_of(run);
	struct rdt_ps_tensor tensors[TENSORS];
	double theta[DIM];
	rdt_comm *comm;
	rdt_ps *ps;

	RANK_CHECK(n == run->servers + run->workers);
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	/* all begin with rank 0's */
	for (int i = 0; i < DIM; i++)
		theta[i] = rank == 0 ? 0.1 : 4711;
	tensors_of(theta, tensors);
	RANK_CHECK(rdt_ps_create(comm, &options, tensors, TENSORS, &ps) == 0);
	RANK_CHECK(rdt_ps_is_server(ps) == (rank < run->servers));
	if (rdt_ps_is_server(ps))
		run->status[rank] = rdt_ps_serve(ps);
	else
		run->status[rank] = work(run, ps, rank, theta);
	if (run->status[rank])
		snprintf(run->sentence[rank], sizeof(run->sentence[rank]), "%s", rdt_last_error());
	memcpy(run->theta[rank], theta, sizeof(theta));
	rdt_ps_destroy(ps);
	rdt_comm_destroy(comm);
	return 0;
}

/* Runs it; fails when anybody but those who are to be killed does not come to an end. */
static struct run *carry_out(const struct run *what)
{
	struct run *run =
		mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct ranks_result result;

	assert_true(run != MAP_FAILED);
	*run = *what;
	ranks_run_result(run->servers + run->workers, 240, take_part, run, &result);
	assert_false(result.timed_out);
	for (int r = 0; r < run->servers + run->workers; r++) {
		if (is_killed(run, r)) {
			assert_true(WIFSIGNALED(result.status[r]));
			continue;
		}
		assert_true(WIFEXITED(result.status[r]) && WEXITSTATUS(result.status[r]) == 0);
		if (run->status[r])
			printf("rank %d: %s\n", r, run->sentence[r]);
	}
	return run;
}

static bool on_verbs(void)
{
	const char *transport = getenv("RDTRAIN_TRANSPORT");

	return transport && strcmp(transport, "verbs") == 0;
}

/* Workers' distances from the solution, the largest. */
static double farthest(const struct run *run)
{
	struct problem problem;
	double most = 0;

	make_problem(&problem, 0);
	for (int r = run->servers; r < run->servers + run->workers; r++)
		if (!is_killed(run, r)) {
			double one = distance(&problem, run->theta[r]);

			assert_int_equal(run->status[r], 0);
			most = one > most ? one : most;
		}
	return most;
}

/* ---- synchronous ----------------------------------------------------------------------------- */

/* The same by one process. */
static void alone(const struct run *run, double *theta)
{
	struct problem *problems = calloc((size_t)run->workers, sizeof(*problems));
	const struct rdt_optimizer_options o = { .size = sizeof(o), .kind = run->optimizer };
	double gradient[DIM], sum[DIM];
	rdt_optimizer *optimizer;

	assert_non_null(problems);
	for (int w = 0; w < run->workers; w++)
		make_problem(&problems[w], w);
	for (int i = 0; i < DIM; i++)
		theta[i] = 0.1;
	assert_int_equal(rdt_optimizer_create(&o, DIM, RDT_FLOAT64, &optimizer), 0);
	for (int k = 0; k < run->steps; k++) {
		gradient_of(&problems[0], theta, sum);
		for (int w = 1; w < run->workers; w++) {
			gradient_of(&problems[w], theta, gradient);
			for (int i = 0; i < DIM; i++)
				sum[i] += gradient[i];
		}
		for (int i = 0; i < DIM; i++)
			sum[i] /= run->workers;
		rdt_optimizer_step(optimizer, (uint64_t)k, run->rate, theta, sum);
	}
	rdt_optimizer_destroy(optimizer);
	free(problems);
}

static void expect_bits_of_one(const struct run *what)
{
	struct run *run = carry_out(what);
	double expected[DIM];

	alone(run, expected);
	for (int r = run->servers; r < run->servers + run->workers; r++) {
		assert_int_equal(run->status[r], 0);
		assert_memory_equal(run->theta[r], expected, sizeof(expected));
		assert_int_equal(run->most_stale[r], 0);
	}
	munmap(run, sizeof(*run));
}

static void synchronous_training_has_the_bits_of_one_process(void **state)
{
	struct run run = { .mode = RDT_PS_SYNC,
			   .servers = 1,
			   .workers = 3,
			   .steps = on_verbs() ? 30 : 60,
			   .rate = 0.5,
			   .kill_worker = -1,
			   .kill_server = -1 };

	(void)state;
	for (run.servers = 1; run.servers <= (on_verbs() ? 2 : 3); run.servers++) {
		run.optimizer = run.servers == 1   ? RDT_SGD
				: run.servers == 2 ? RDT_MOMENTUM
						   : RDT_ADAM;
		run.rate = run.optimizer == RDT_SGD ? 0.5 : 0.01;
		expect_bits_of_one(&run);
	}
	run.workers = 1;
	run.servers = 1;
	expect_bits_of_one(&run);
}

/* ---- asynchronous, and in between ------------------------------------------------------------ */

static void the_other_modes_come_to_the_solution(void **state)
{
	struct run what = { .mode = RDT_PS_ASYNC,
			    .staleness = 4,
			    .servers = 2,
			    .workers = 3,
			    .steps = on_verbs() ? 250 : 1500,
			    .optimizer = RDT_SGD,
			    .rate = 0.3,
			    .kill_worker = -1,
			    .kill_server = -1,
			    .slow = false };

	(void)state;
	for (; what.mode <= RDT_PS_STALE; what.mode++) {
		struct run *run = carry_out(&what);
		double start, end = farthest(run);
		struct problem problem;
		double theta[DIM];

		make_problem(&problem, 0);
		for (int i = 0; i < DIM; i++)
			theta[i] = 0.1;
		start = distance(&problem, theta);
		printf("%s: distance from the solution %.3g, at first %.3g\n",
		       what.mode == RDT_PS_ASYNC ? "asynchronous" : "staleness 4", end, start);
		assert_true(end < (on_verbs() ? 0.1 : 0.005) * start);
		munmap(run, sizeof(*run));
	}
}

static void staleness_stays_within_its_bound(void **state)
{
	struct run what = { .mode = RDT_PS_STALE,
			    .servers = 2,
			    .workers = 4,
			    .steps = 80,
			    .optimizer = RDT_SGD,
			    .rate = 0.1,
			    .kill_worker = -1,
			    .kill_server = -1,
			    .at = 30,
			    .slow = true };

	(void)state;
	for (what.staleness = 0; what.staleness <= 4; what.staleness += 4) {
		struct run *run = carry_out(&what);
		uint64_t most = 0;

		farthest(run);
		for (int r = 0; r < RANKS_MAX; r++)
			most = run->most_stale[r] > most ? run->most_stale[r] : most;
		printf("staleness %llu allowed, %llu seen\n", (unsigned long long)what.staleness,
		       (unsigned long long)most);
		assert_true(most <= what.staleness);
		/* the fast ones do use what they are given */
		assert_int_equal(most, what.staleness);
		munmap(run, sizeof(*run));
	}
}

/* ---- losses ---------------------------------------------------------------------------------- */

static void the_others_finish_when_a_worker_is_killed(void **state)
{
	struct run what = { .mode = RDT_PS_SYNC,
			    .staleness = 2,
			    .servers = 2,
			    .workers = 3,
			    .steps = on_verbs() ? 120 : 1200,
			    .optimizer = RDT_SGD,
			    .rate = 0.5,
			    .kill_worker = 1,
			    .kill_server = -1,
			    .at = 20 };

	(void)state;
	for (; what.mode <= RDT_PS_STALE; what.mode++) {
		struct run *run = carry_out(&what);
		double end = farthest(run);

		printf("mode %d, a worker of 3 killed: distance from the solution %.3g\n",
		       (int)what.mode, end);
		assert_true(end < 0.5);
		for (int r = 0; r < run->servers; r++)
			assert_int_equal(run->status[r], 0);
		munmap(run, sizeof(*run));
	}
}

/* The replica goes on from the very bits. */
static void a_killed_servers_shard_is_restored_from_its_replica(void **state)
{
	struct run what = { .mode = RDT_PS_SYNC,
			    .staleness = 2,
			    .servers = 2,
			    .workers = 3,
			    .steps = 60,
			    .rate = 0.01,
			    .kill_worker = -1,
			    .at = 25 };

	(void)state;
	for (what.servers = 2; what.servers <= (on_verbs() ? 2 : 3); what.servers++)
		for (what.kill_server = 0; what.kill_server < what.servers; what.kill_server++) {
			what.optimizer = what.kill_server == 0 ? RDT_ADAM : RDT_MOMENTUM;
			expect_bits_of_one(&what);
		}
	/* The other modes, too, come to an end. */
	what.servers = 2;
	what.kill_server = 1;
	what.optimizer = RDT_SGD;
	what.rate = 0.3;
	what.steps = on_verbs() ? 120 : 1500;
	for (what.mode = RDT_PS_ASYNC; what.mode <= RDT_PS_STALE; what.mode++) {
		struct run *run = carry_out(&what);
		double end = farthest(run);

		printf("mode %d, a server of 2 killed: distance from the solution %.3g\n",
		       (int)what.mode, end);
		assert_true(end < 0.5);
		munmap(run, sizeof(*run));
	}
}

/*
 * Each worker's gradient is one constant, so each parameter counts how often each worker's pushes
 * were applied: the first worker's in its low digits, the second's in its high ones. Servers apply
 * what came from both at once, and one is killed amidst that: whatever it was doing, its replica
 * has all parameters of a shard from one moment, and each push once.
 */
#define BIG ((size_t)1 << 17)
#define BIG_TENSORS 4
#define HIGH 1024.0

struct amidst {
	int server, after_us, steps;
};

static int count_pushes(rdt_ps *ps, const struct amidst *a, int worker, double *const *theta)
{
	const void *gradients[BIG_TENSORS];
	double *gradient = calloc(BIG, sizeof(*gradient));

	RANK_CHECK(gradient);
	for (size_t i = 0; i < BIG; i++)
		gradient[i] = worker == 0 ? -1 : -HIGH;
	for (int t = 0; t < BIG_TENSORS; t++)
		gradients[t] = gradient;
	for (int k = 0; k <= a->steps; k++) {
		RANK_CHECK(rdt_ps_pull(ps) == 0);
		for (int t = 0; t < BIG_TENSORS; t++) {
			double first = theta[t][0], own = fmod(first, HIGH);

			for (size_t i = 1; i < BIG; i++)
				RANK_CHECK(theta[t][i] == first);
			if (worker == 1)
				own = (first - own) / HIGH;
			RANK_CHECK(own == k);
		}
		if (k < a->steps)
			RANK_CHECK(rdt_ps_push(ps, gradients) == 0);
		if (worker == 0 && k == a->steps / 2) {
			usleep((useconds_t)a->after_us);
			kill(ranks_pid(a->server), SIGKILL);
		}
	}
	free(gradient);
	return 0;
}

static int lose_a_server(int rank, int n, void *arg)
{
	const struct amidst *a = arg;
	struct rdt_ps_options options = {
		.size = sizeof(options),
		.servers = 2,
		.mode = RDT_PS_ASYNC,
		.type = RDT_FLOAT64,
		.optimizer = { .kind = RDT_SGD },
		.rate = { .base = 1 },
		.timeout_s = 60,
	};
	struct rdt_ps_tensor tensors[BIG_TENSORS];
	double *theta[BIG_TENSORS];
	rdt_comm *comm;
	rdt_ps *ps;
	int bad = 0;

	RANK_CHECK(n == 4);
	for (int t = 0; t < BIG_TENSORS; t++) {
		theta[t] = calloc(BIG, sizeof(*theta[t]));
		RANK_CHECK(theta[t]);
		tensors[t] = (struct rdt_ps_tensor){ names[2 * t], theta[t], BIG };
	}
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_ps_create(comm, &options, tensors, BIG_TENSORS, &ps) == 0);
	if (rdt_ps_is_server(ps))
		RANK_CHECK(rdt_ps_serve(ps) == 0);
	else
		bad = count_pushes(ps, a, rank - options.servers, theta);
	rdt_ps_destroy(ps);
	rdt_comm_destroy(comm);
	for (int t = 0; t < BIG_TENSORS; t++)
		free(theta[t]);
	return bad;
}

static void a_replica_has_one_moment_wherever_its_server_was_killed(void **state)
{
	int rounds = on_verbs() ? 4 : 16;

	(void)state;
	for (int i = 0; i < rounds; i++) {
		struct amidst a = { .server = i % 2, .after_us = i / 2 * 1000, .steps = 8 };
		struct ranks_result result;

		ranks_run_result(4, 120, lose_a_server, &a, &result);
		for (int r = 0; r < 4; r++)
			assert_true(r == a.server ? WIFSIGNALED(result.status[r])
						  : WIFEXITED(result.status[r]) &&
							    WEXITSTATUS(result.status[r]) == 0);
	}
}

static void without_a_replica_the_loss_of_the_server_is_told(void **state)
{
	struct run what = { .mode = RDT_PS_SYNC,
			    .servers = 1,
			    .workers = 2,
			    .steps = 1000,
			    .optimizer = RDT_SGD,
			    .rate = 0.1,
			    .kill_worker = -1,
			    .kill_server = 0,
			    .at = 10 };
	struct run *run;

	(void)state;
	run = carry_out(&what);
	for (int r = 1; r < 3; r++) {
		assert_int_equal(run->status[r], RDT_ERR_PEER_LOST);
		assert_non_null(strstr(run->sentence[r], "no replica"));
	}
	munmap(run, sizeof(*run));
}

/* ---- wrong calls ----------------------------------------------------------------------------- */

static int wrong_calls(int rank, int n, void *arg)
{
	struct run run = { .servers = 1, .workers = n - 1, .rate = 0.1 };
	struct rdt_ps_options good = options_of(&run), bad;
	struct rdt_ps_tensor tensors[TENSORS], twice[TENSORS];
	const void *gradients[TENSORS];
	double theta[DIM] = { 0 };
	rdt_comm *comm;
	rdt_ps *ps;

	(void)arg;
	tensors_of(theta, tensors);
	for (int i = 0; i < TENSORS; i++)
		gradients[i] = theta;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	bad = good;
	bad.size = 8;
	RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_INVALID && !ps);
	bad = good;
	bad.servers = n;
	RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_INVALID);
	bad = good;
	bad.type = RDT_INT32;
	RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_INVALID);
	bad = good;
	bad.optimizer.kind = 17;
	RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_INVALID);
	memcpy(twice, tensors, sizeof(twice));
	twice[2].name = twice[0].name;
	RANK_CHECK(rdt_ps_create(comm, &good, twice, TENSORS, &ps) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "both called"));
	RANK_CHECK(rdt_ps_create(comm, &good, tensors, 0, &ps) == RDT_ERR_INVALID);
	/* Ranks that disagree. */
	bad = good;
	bad.staleness = (uint64_t)(rank == 1);
	RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_MISMATCH);
	RANK_CHECK(strstr(rdt_last_error(), "rank 1"));
	for (int field = 0; field < 11; field++) {
		struct rdt_optimizer_options *o = &bad.optimizer;
		double *numbers[] = { &o->momentum,    &o->beta1,      &o->beta2,
				      &o->epsilon,     &bad.rate.base, &bad.rate.factor,
				      &bad.rate.least, &bad.timeout_s };

		bad = good;
		bad.rate.kind = RDT_RATE_STEP;
		o->momentum = o->beta1 = o->beta2 = o->epsilon = 0.5;
		if (rank == 1 && field < 8)
			*numbers[field] = nextafter(*numbers[field], 1); /* the least difference */
		bad.rate.warmup = (uint64_t)(rank == 1 && field == 8);
		bad.rate.every = (uint64_t)(rank == 1 && field == 9);
		if (rank == 1 && field == 10)
			bad.rate.kind = RDT_RATE_COSINE;
		RANK_CHECK(rdt_ps_create(comm, &bad, tensors, TENSORS, &ps) == RDT_ERR_MISMATCH);
	}
	/* And then one that is right. */
	RANK_CHECK(rdt_ps_create(comm, &good, tensors, TENSORS, &ps) == 0);
	if (rank == 0) {
		RANK_CHECK(rdt_ps_pull(ps) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_ps_push(ps, gradients) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_ps_serve(ps) == 0);
	} else {
		RANK_CHECK(rdt_ps_serve(ps) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_ps_pull(ps) == 0);
		RANK_CHECK(rdt_ps_push(ps, NULL) == RDT_ERR_INVALID);
		RANK_CHECK(rdt_ps_push(ps, gradients) == 0);
		RANK_CHECK(rdt_ps_staleness(ps) == 0); /* at the last pull, not now */
		RANK_CHECK(rdt_ps_pull(ps) == 0);
	}
	rdt_ps_destroy(ps);
	rdt_ps_destroy(NULL);
	rdt_comm_destroy(comm);
	return 0;
}

static void wrong_calls_are_told(void **state)
{
	(void)state;
	assert_true(ranks_run(3, 60, wrong_calls, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(synchronous_training_has_the_bits_of_one_process),
		cmocka_unit_test(the_other_modes_come_to_the_solution),
		cmocka_unit_test(staleness_stays_within_its_bound),
		cmocka_unit_test(the_others_finish_when_a_worker_is_killed),
		cmocka_unit_test(a_killed_servers_shard_is_restored_from_its_replica),
		cmocka_unit_test(a_replica_has_one_moment_wherever_its_server_was_killed),
		cmocka_unit_test(without_a_replica_the_loss_of_the_server_is_told),
		cmocka_unit_test(wrong_calls_are_told),
	};

	ranks_need_device();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
