/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From an algorithm to a prediction: which ranks are run, their schedules compiled to what each
 * step costs and whom it concerns, one run or two, and the sum. timeline.c runs.
 */
#include "simulate.h"

#include <stdlib.h>
#include <string.h>

#include "timeline.h"

#define MAX_STEPS UINT64_C(20000000)
/* Below this many steps all ranks of a symmetric algorithm are run when its blocks are unequal. */
#define EXACT_STEPS UINT64_C(2000000)
/* Operations of more windows than SETTLED in each slot are not run to the end: time grows evenly
 * from there on. Where that takes more than SLOW_STEPS, one window in each slot less has to do. */
#define SETTLED 3
#define SLOW_STEPS UINT64_C(4000000)

struct job {
	const struct rdt_algorithm *algorithm;
	const struct rdt_simulation *what;
	struct rdt_model model;	   /* with what the ranks of a host cost each other */
	int *host;		   /* [ranks] */
	int *within;		   /* [ranks]: the number of the rank on its host */
	int per_host;		   /* consecutive ranks on each host; 0: not so even */
	bool blocks;		   /* the buffers are divided into blocks, and each is cut */
	uint64_t bytes;		   /* of the vector, or of one block */
	uint64_t window;	   /* of that in a full window */
	uint64_t n_windows;	   /* of the operation */
	uint64_t rest;		   /* of that in the last window when it is shorter, else 0 */
	uint64_t *offset, *length; /* [ranks]: blocks in the window */
	struct rdt_shape shape;
	struct rdt_sim sim;
	uint64_t put[2], puts[2];  /* a run of the full window and of the tail: bytes of the busiest
				      rank, and puts of the ranks that are run */
	int stride;		   /* ranks to a rotation when only host 0 is run, else 0 */
	int peers_host, peers_net; /* of the rank with the most */
	uint64_t scratch;	   /* bytes of one slot, all epochs */
	uint64_t stored;	   /* steps of the ranks compiled so far, in a full window */
	uint64_t settled;	   /* windows in each slot that are run, at most */
};

/* ---- who is where ------------------------------------------------------------------------- */

static int place(struct job *job)
{
	const struct rdt_simulation *what = job->what;
	int n = what->ranks, *count;
	int per = what->ranks_per_host > 0 ? what->ranks_per_host : 1;
	int n_hosts = 0, most = 0;

	job->host = calloc((size_t)n, sizeof(*job->host));
	job->within = calloc((size_t)n, sizeof(*job->within));
	if (!job->host || !job->within)
		return -1;
	for (int r = 0; r < n; r++) {
		job->host[r] = what->host ? what->host[r] : r / per;
		if (job->host[r] >= n_hosts)
			n_hosts = job->host[r] + 1;
	}
	count = calloc((size_t)n_hosts, sizeof(*count));
	if (!count)
		return -1;
	for (int r = 0; r < n; r++) {
		job->within[r] = count[job->host[r]]++;
		most = count[job->host[r]] > most ? count[job->host[r]] : most;
	}
	job->model = *what->model;
	rdt_model_crowd(&job->model, most);
	/* Is every host's number that of its ranks, divided? */
	per = count[0];
	job->per_host = per && n % per == 0 ? per : 0;
	for (int r = 0; r < n && job->per_host; r++)
		if (job->host[r] != r / per)
			job->per_host = 0;
	job->sim.n_hosts = n_hosts;
	free(count);
	return 0;
}

static bool has_in(enum rdt_collective c)
{
	return c == RDT_COLL_REDUCE_SCATTER || c == RDT_COLL_SCATTER || c == RDT_COLL_ALLTOALL;
}

static bool has_out(enum rdt_collective c)
{
	return c == RDT_COLL_ALLGATHER || c == RDT_COLL_GATHER || c == RDT_COLL_ALLTOALL;
}

static void shape_window(struct job *job, uint64_t bytes)
{
	job->shape.bytes = job->blocks ? 0 : bytes;
	job->shape.max_block = job->blocks ? bytes : 0;
	for (int r = 0; r < job->what->ranks && job->blocks; r++)
		job->length[r] = bytes;
}

/* The operation in windows. Of blocks, each is cut at the same places. */
static int cut(struct job *job)
{
	const struct rdt_simulation *what = job->what;
	enum rdt_collective collective = job->algorithm->collective;
	uint64_t n = (uint64_t)what->ranks, elem = what->elem_size ? what->elem_size : 1;
	uint64_t window;

	job->blocks = has_in(collective) || has_out(collective);
	if (collective != RDT_COLL_BARRIER) {
		job->bytes = job->blocks ? (what->bytes + n - 1) / n : what->bytes;
		job->bytes = (job->bytes + elem - 1) / elem * elem;
	}
	window = job->blocks ? rdt_window_block(what->window, job->bytes * n, elem, n)
			     : rdt_window_bytes(what->window, job->bytes, elem);
	job->window = job->bytes <= window ? job->bytes : window;
	job->n_windows = job->bytes <= window ? 1 : (job->bytes + window - 1) / window;
	job->rest = job->bytes - (job->n_windows - 1) * job->window;
	if (job->rest == job->window)
		job->rest = 0;
	job->shape = (struct rdt_shape){
		.collective = collective,
		.elem_size = (uint32_t)elem,
		.root = what->root,
		.remote_output = what->remote_output,
		.mapped = what->mapped,
		.host = what->checked ? NULL : job->host,
	};
	if (job->blocks) {
		job->offset = calloc(n, sizeof(*job->offset));
		job->length = calloc(n, sizeof(*job->length));
		if (!job->offset || !job->length)
			return -1;
		for (uint64_t r = 0; r < n; r++)
			job->offset[r] = r * job->bytes;
		if (has_in(collective))
			job->shape.in = (struct rdt_layout){ job->offset, job->length };
		if (has_out(collective))
			job->shape.out = (struct rdt_layout){ job->offset, job->length };
	}
	shape_window(job, job->window);
	return 0;
}

/* ---- compiling ---------------------------------------------------------------------------- */

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static int emit(struct job *job, int rank, uint64_t bytes, struct rdt_schedule *schedule)
{
	struct rdt_group group = { .rank = rank, .size = job->what->ranks };

	shape_window(job, bytes);
	rdt_schedule_init(schedule);
	return job->algorithm->emit(&group, &job->shape, schedule);
}

static uint64_t count_steps(const struct rdt_schedule *s)
{
	uint64_t steps = 0;

	for (int l = 0; l < s->n_lanes; l++)
		steps += s->lanes[l].n_steps;
	return steps;
}

/* Whom the actor waits for, each once, sorted: the tail's peers are those of a full window. */
static int collect_peers(struct rdt_sim_actor *actor, const struct rdt_schedule *s)
{
	int n = 0, unique = 0;

	actor->peers = calloc((size_t)count_steps(s) + 1, sizeof(*actor->peers));
	if (!actor->peers)
		return -1;
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++)
			if (s->lanes[l].steps[i].kind == RDT_WAIT)
				actor->peers[n++] = s->lanes[l].steps[i].peer;
	qsort(actor->peers, (size_t)n, sizeof(*actor->peers), compare_ints);
	for (int i = 0; i < n; i++)
		if (unique == 0 || actor->peers[unique - 1] != actor->peers[i])
			actor->peers[unique++] = actor->peers[i];
	actor->n_peers = unique;
	if (unique) {
		int *shrunk = realloc(actor->peers, (size_t)unique * sizeof(*shrunk));

		if (shrunk)
			actor->peers = shrunk;
	}
	return 0;
}

/* What the rank needs to run this schedule; the tail's is no other. */
static int count_needs(struct job *job, int rank, const struct rdt_schedule *s)
{
	int *partners = calloc((size_t)count_steps(s) + 1, sizeof(*partners));
	uint64_t scratch = (s->scratch_bytes + 63) / 64 * 64 * (uint64_t)s->scratch_epochs;
	int n = 0, host = 0, net = 0;

	if (!partners)
		return -1;
	for (int l = 0; l < s->n_lanes; l++)
		for (size_t i = 0; i < s->lanes[l].n_steps; i++) {
			const struct rdt_step *step = &s->lanes[l].steps[i];

			if (step->kind == RDT_WAIT || step->kind == RDT_PUT)
				partners[n++] = step->peer;
		}
	qsort(partners, (size_t)n, sizeof(*partners), compare_ints);
	for (int i = 0; i < n; i++)
		if (i == 0 || partners[i] != partners[i - 1]) {
			host += job->host[partners[i]] == job->host[rank];
			net += job->host[partners[i]] != job->host[rank];
		}
	free(partners);
	job->peers_host = host > job->peers_host ? host : job->peers_host;
	job->peers_net = net > job->peers_net ? net : job->peers_net;
	job->scratch = scratch > job->scratch ? scratch : job->scratch;
	return 0;
}

static uint32_t link_of(const struct rdt_sim_actor *actor, int peer)
{
	const int *at =
		bsearch(&peer, actor->peers, (size_t)actor->n_peers, sizeof(peer), compare_ints);

	return at ? (uint32_t)(at - actor->peers) : UINT32_MAX;
}

static uint64_t per_byte(uint64_t bytes, uint64_t femtoseconds)
{
	return bytes * femtoseconds / 1000;
}

static void compile_step(const struct job *job, int rank, const struct rdt_schedule *s,
			 const struct rdt_step *step, struct rdt_sim_op *op)
{
	const struct rdt_model *model = &job->model;
	uint64_t length = step->n_dst ? rdt_step_dst(s, step)->length : 0;
	uint64_t spans = (uint64_t)step->n_src + step->n_dst;

	*op = (struct rdt_sim_op){ .kind = step->kind };
	switch ((enum rdt_step_kind)step->kind) {
	case RDT_PUT:
	case RDT_WAIT:
		op->value = length;
		op->count = step->count;
		op->net = job->host[rank] == job->host[step->peer] ? RDT_LINK_HOST : RDT_LINK_NET;
		op->actor = (uint32_t)step->peer; /* until connect() */
		break;
	case RDT_REDUCE:
		op->value = model->reduce + per_byte(length * step->n_src, model->reduce_byte) +
			    per_byte(length * (step->n_dst - 1u), model->copy_byte);
		op->traffic = length * spans;
		break;
	case RDT_COPY:
		op->value = model->copy + per_byte(length, model->copy_byte);
		op->traffic = length * spans;
		break;
	}
}

/* One rank's schedule of a full window or of the tail. */
static int compile(struct job *job, int a, bool tail)
{
	struct rdt_sim_actor *actor = &job->sim.actors[a];
	struct rdt_schedule s;
	uint64_t put = 0;
	int status = emit(job, actor->rank, tail ? job->rest : job->window, &s);

	if (!tail)
		job->stored += count_steps(&s);
	if (!status && !tail)
		status = collect_peers(actor, &s) || count_needs(job, actor->rank, &s) ? -1 : 0;
	for (int l = 0; l < s.n_lanes && !status; l++) {
		struct rdt_sim_lane *lane = &actor->lanes[tail][l];

		lane->ops = calloc(s.lanes[l].n_steps + 1, sizeof(*lane->ops));
		if (!lane->ops) {
			status = -1;
			break;
		}
		lane->n = s.lanes[l].n_steps;
		for (size_t i = 0; i < lane->n; i++) {
			compile_step(job, actor->rank, &s, &s.lanes[l].steps[i], &lane->ops[i]);
			if (lane->ops[i].kind == RDT_PUT) {
				put += lane->ops[i].value;
				job->puts[tail]++;
			}
		}
	}
	if (put > job->put[tail])
		job->put[tail] = put;
	if (s.n_lanes > job->sim.n_lanes)
		job->sim.n_lanes = s.n_lanes;
	rdt_schedule_free(&s);
	return status;
}

/* Ties puts to their receivers, now that all are compiled. Returns false where a peer never waits
 * for a put: the engine would do harm there, so it is not worth a number. */
static bool connect(struct job *job, struct rdt_sim_op *op, const struct rdt_sim_actor *actor)
{
	int peer = (int)op->actor, me = actor->rank, n = job->what->ranks;

	if (op->kind == RDT_WAIT) {
		op->link = link_of(actor, peer);
		return true;
	}
	/* The peer's host becomes host 0, and everybody moves along. */
	if (job->stride) {
		int hosts_away = peer / job->stride * job->stride;

		peer -= hosts_away;
		me = (me - hosts_away + n) % n;
	}
	op->actor = (uint32_t)peer;
	op->link = link_of(&job->sim.actors[peer], me);
	return op->link != UINT32_MAX;
}

static bool connect_all(struct job *job)
{
	bool good = true;

	for (int a = 0; a < job->sim.n_actors; a++)
		for (int tail = 0; tail < 2; tail++)
			for (int l = 0; l < job->sim.n_lanes; l++) {
				struct rdt_sim_lane *lane = &job->sim.actors[a].lanes[tail][l];

				for (size_t i = 0; i < lane->n; i++)
					if (lane->ops[i].kind == RDT_PUT ||
					    lane->ops[i].kind == RDT_WAIT)
						good &= connect(job, &lane->ops[i],
								&job->sim.actors[a]);
			}
	return good;
}

/* ---- how much of it is run ---------------------------------------------------------------- */

/* What a rank has to do in a full window. */
static int weigh(struct job *job, int rank, uint64_t *steps, int *n_lanes)
{
	struct rdt_schedule s;
	int status = emit(job, rank, job->window, &s);

	*steps = count_steps(&s);
	*n_lanes = s.n_lanes;
	rdt_schedule_free(&s);
	return status;
}

static void limit_slots(struct job *job, int n_lanes)
{
	struct rdt_sim *sim = &job->sim;

	if (sim->n_slots * n_lanes > RDT_WINDOW_LANES)
		sim->n_slots = RDT_WINDOW_LANES / n_lanes;
	if (job->n_windows < (uint64_t)sim->n_slots)
		sim->n_slots = (int)job->n_windows;
}

/* Windows of all runs together, with at most `settled` in each slot. */
static uint64_t windows_run(const struct job *job, uint64_t settled)
{
	uint64_t slots = (uint64_t)job->sim.n_slots;

	return job->n_windows <= settled * slots ? job->n_windows : (2 * settled - 1) * slots;
}

static uint64_t most_steps(const struct job *job)
{
	return job->what->max_steps ? job->what->max_steps : MAX_STEPS;
}

/* How much is run of ranks that have `steps` in one window together. */
static enum rdt_simulated settle(struct job *job, uint64_t steps)
{
	job->settled = SETTLED;
	if (steps * windows_run(job, SETTLED) > SLOW_STEPS)
		job->settled = SETTLED - 1;
	return steps * windows_run(job, job->settled) > most_steps(job) ? RDT_SIMULATE_TOO_BIG
									: RDT_SIMULATED;
}

/*
 * Whether only host 0 is run, and how many windows. The ranks of a symmetric algorithm have equally
 * much to do. Of the others some are asked, but not the root: that is the least there is to do, and
 * what is much too big is not compiled to find out.
 */
static enum rdt_simulated choose(struct job *job)
{
	const struct rdt_simulation *what = job->what;
	int n = what->ranks, asked[] = { 0, 1, n / 2, n - 1 };
	unsigned symmetries = RDT_ALG_SYMMETRIC | RDT_ALG_HOST_SYMMETRIC;
	unsigned symmetric = job->algorithm->flags & symmetries;
	uint64_t unit = (uint64_t)n * job->shape.elem_size, steps, least = UINT64_MAX;
	bool equal = job->blocks || (job->window % unit == 0 && job->rest % unit == 0);
	int n_lanes;

	job->sim.n_slots = RDT_WINDOW_SLOTS;
	for (int i = 0; i < (symmetric & RDT_ALG_SYMMETRIC ? 1 : 4); i++) {
		if (weigh(job, asked[i] < n ? asked[i] : 0, &steps, &n_lanes))
			return RDT_SIMULATE_NO_MEMORY;
		limit_slots(job, n_lanes);
		if (steps < least && (asked[i] != what->root || n == 1 || symmetric))
			least = steps;
	}
	if (symmetric && job->per_host && !what->all_ranks &&
	    (equal || least * (uint64_t)n * windows_run(job, SETTLED) > EXACT_STEPS)) {
		job->stride = job->per_host;
		n = job->stride;
	}
	return settle(job, least * (uint64_t)n);
}

static enum rdt_simulated make_actors(struct job *job)
{
	struct rdt_sim *sim = &job->sim;
	int rails = job->model.rails ? (int)job->model.rails : 1;

	sim->model = &job->model;
	sim->checked = job->what->checked;
	sim->n_actors = job->stride ? job->stride : job->what->ranks;
	sim->actors = calloc((size_t)sim->n_actors, sizeof(*sim->actors));
	if (!sim->actors)
		return RDT_SIMULATE_NO_MEMORY;
	if (job->stride)
		sim->n_hosts = 1;
	for (int a = 0; a < sim->n_actors; a++) {
		sim->actors[a].rank = a;
		sim->actors[a].host = job->host[a];
		sim->actors[a].rail = job->host[a] * rails + job->within[a] % rails;
	}
	for (int a = 0; a < sim->n_actors; a++) {
		if (compile(job, a, false) || (job->rest && compile(job, a, true)))
			return RDT_SIMULATE_NO_MEMORY;
		if (job->stored > most_steps(job))
			return RDT_SIMULATE_TOO_BIG;
	}
	limit_slots(job, sim->n_lanes);
	return settle(job, job->stored);
}

static void free_job(struct job *job)
{
	for (int a = 0; a < job->sim.n_actors && job->sim.actors; a++) {
		for (int l = 0; l < RDT_MAX_LANES; l++) {
			free(job->sim.actors[a].lanes[0][l].ops);
			free(job->sim.actors[a].lanes[1][l].ops);
		}
		free(job->sim.actors[a].peers);
	}
	free(job->sim.actors);
	free(job->host);
	free(job->within);
	free(job->offset);
	free(job->length);
}

/* Time of the whole operation from that of settled - 1 and settled windows in each slot. */
static uint64_t extrapolate(const struct job *job, uint64_t fewer_ps, uint64_t more_ps)
{
	uint64_t step = (uint64_t)job->sim.n_slots * job->window;
	uint64_t left = job->bytes - job->settled * step;
	uint64_t grown = more_ps > fewer_ps ? more_ps - fewer_ps : 0;

	return more_ps + (uint64_t)((unsigned __int128)grown * left / step);
}

static enum rdt_simulated run(struct job *job, struct rdt_prediction *out)
{
	struct rdt_sim *sim = &job->sim;
	uint64_t settled = job->settled * (uint64_t)sim->n_slots;
	struct rdt_sim_result result, fewer;

	if (job->n_windows <= settled) {
		sim->n_windows = job->n_windows;
		sim->tail = job->rest != 0;
		if (rdt_sim_run(sim, &result))
			return RDT_SIMULATE_NO_MEMORY;
		fewer = result;
		out->time_ps = result.time_ps;
		out->steps = result.steps;
	} else {
		sim->n_windows = settled - (uint64_t)sim->n_slots;
		if (rdt_sim_run(sim, &fewer))
			return RDT_SIMULATE_NO_MEMORY;
		sim->n_windows = settled;
		if (rdt_sim_run(sim, &result))
			return RDT_SIMULATE_NO_MEMORY;
		out->time_ps = extrapolate(job, fewer.time_ps, result.time_ps);
		out->steps = result.steps + fewer.steps;
	}
	out->rounds = result.rounds;
	return result.stuck || fewer.stuck ? RDT_SIMULATE_STUCK : RDT_SIMULATED;
}

enum rdt_simulated rdt_simulate(const struct rdt_algorithm *algorithm,
				const struct rdt_simulation *what, struct rdt_prediction *out)
{
	struct job job = { .algorithm = algorithm, .what = what };
	enum rdt_simulated outcome = RDT_SIMULATE_NO_MEMORY;
	uint64_t full;

	*out = (struct rdt_prediction){ 0 };
	if (what->ranks < 1 || (algorithm->collective == RDT_COLL_SEND && what->ranks != 2))
		return RDT_SIMULATE_NOT_APPLICABLE;
	if (place(&job) || cut(&job))
		goto out;
	if (!rdt_algorithm_applies(algorithm, what->ranks, &job.shape)) {
		outcome = RDT_SIMULATE_NOT_APPLICABLE;
		goto out;
	}
	outcome = choose(&job);
	if (!outcome)
		outcome = make_actors(&job);
	if (outcome)
		goto out;
	if (!connect_all(&job)) {
		outcome = RDT_SIMULATE_STUCK;
		goto out;
	}
	outcome = run(&job, out);
	full = job.n_windows - (job.rest ? 1 : 0);
	out->bytes = full * job.put[0] + (job.rest ? job.put[1] : 0);
	out->puts = full * job.puts[0] + (job.rest ? job.puts[1] : 0);
	if (job.stride)
		out->puts *= (uint64_t)(what->ranks / job.stride);
	out->peers_host = job.peers_host;
	out->peers_net = job.peers_net;
	out->scratch = job.scratch * (uint64_t)job.sim.n_slots;
out:
	free_job(&job);
	return outcome;
}

const char *rdt_simulated_text(enum rdt_simulated outcome)
{
	switch (outcome) {
	case RDT_SIMULATED: return "simulated";
	case RDT_SIMULATE_NO_MEMORY: return "out of memory";
	case RDT_SIMULATE_NOT_APPLICABLE: return "does not apply";
	case RDT_SIMULATE_TOO_BIG: return "too many steps";
	case RDT_SIMULATE_STUCK: return "a rank waits for ever";
	}
	return "?";
}
