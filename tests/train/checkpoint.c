/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checkpoints: saved by some ranks and loaded by others, cut in any way; damaged at any byte; and a
 * run that is killed at each system call of a save, then resumed, against one that was not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rdtrain/train.h>

#include "ranks.h"

static char temporary[] = "/tmp/rdt_checkpoint_XXXXXX", *directory = temporary, path[128];

/* What ranks tell the test. */
static struct told {
	uint64_t step, calls, finished;
	float params[64];
	char skipped[2048];
} * told;

static void clean(void)
{
	DIR *folder = opendir(directory);
	struct dirent *file;

	while (folder && (file = readdir(folder)) != NULL) {
		snprintf(path, sizeof(path), "%s/%.64s", directory, file->d_name);
		unlink(path);
	}
	if (folder)
		closedir(folder);
}

/* ---- system calls of a save, counted, and the one to die in ------------------------------- */

static uint64_t die_at, calls;

static bool dies_now(void)
{
	return ++calls == die_at;
}

static void die(void)
{
	raise(SIGKILL);
}

/* Of a write that is its last, half is done. */
__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	bool last = dies_now();
	ssize_t done = syscall(SYS_pwrite64, fd, data, last ? n / 2 : n, at);

	if (last)
		die();
	return done;
}

__attribute__((visibility("default"))) int fsync(int fd)
{
	if (dies_now())
		die();
	return (int)syscall(SYS_fsync, fd);
}

__attribute__((visibility("default"))) int rename(const char *from, const char *to)
{
	if (dies_now())
		die();
	return (int)syscall(SYS_rename, from, to);
}

__attribute__((visibility("default"))) int ftruncate(int fd, off_t length)
{
	if (dies_now())
		die();
	return (int)syscall(SYS_ftruncate, fd, length);
}

/* ---- cut in any way ----------------------------------------------------------------------- */

#define ROWS 7
#define COLUMNS 10
#define LARGE 300007 /* more than a MiB of floats */
#define SHORT 11

struct set {
	float matrix[ROWS * COLUMNS], columns[ROWS * COLUMNS], *large;
	double vector[SHORT];
	int64_t single;
	struct rdt_tensor tensors[6];
	struct rdt_checkpoint c;
};

static uint64_t bound(uint64_t n, int rank, int ranks)
{
	return n * (uint64_t)rank / (uint64_t)ranks;
}

/* Tensors that are whole, cut by rows, by columns, by both, and empty. */
static struct set *make_set(int rank, int n)
{
	struct set *s = calloc(1, sizeof(*s));
	uint64_t r0 = bound(ROWS, rank, n), r1 = bound(ROWS, rank + 1, n);
	uint64_t c0 = bound(COLUMNS, rank, n), c1 = bound(COLUMNS, rank + 1, n);
	uint64_t v0 = bound(SHORT, rank, n), v1 = bound(SHORT, rank + 1, n);

	s->large = calloc(LARGE, sizeof(float));
	s->tensors[0] = (struct rdt_tensor){ .name = "rows",
					     .n_dims = 2,
					     .dims = { ROWS, COLUMNS },
					     .sharded = 1,
					     .start = { r0, 0 },
					     .count = { r1 - r0, COLUMNS },
					     .data = s->matrix };
	s->tensors[1] = (struct rdt_tensor){ .name = "columns \xc3\xa9",
					     .n_dims = 2,
					     .dims = { ROWS, COLUMNS },
					     .sharded = 1,
					     .start = { 0, c0 },
					     .count = { ROWS, c1 - c0 },
					     .data = s->columns };
	s->tensors[2] = (struct rdt_tensor){
		.name = "large", .n_dims = 1, .dims = { LARGE }, .data = s->large
	};
	s->tensors[3] = (struct rdt_tensor){ .name = "vector",
					     .type = RDT_FLOAT64,
					     .n_dims = 1,
					     .dims = { SHORT },
					     .sharded = 1,
					     .start = { v0 },
					     .count = { v1 - v0 },
					     .data = s->vector };
	s->tensors[4] =
		(struct rdt_tensor){ .name = "single", .type = RDT_INT64, .data = &s->single };
	s->tensors[5] = (struct rdt_tensor){
		.name = "empty", .type = RDT_UINT8, .n_dims = 2, .dims = { 0, 3 }
	};
	s->c = (struct rdt_checkpoint){ .size = sizeof(s->c),
					.tensors = s->tensors,
					.n_tensors = 6 };
	return s;
}

static void free_set(struct set *s)
{
	free(s->large);
	free(s);
}

/* Walks over this rank's parts: sets their elements, or says how many are wrong. */
static int each_element(struct set *s, int rank, int n, bool set)
{
	uint64_t r0 = bound(ROWS, rank, n), c0 = bound(COLUMNS, rank, n);
	uint64_t columns = bound(COLUMNS, rank + 1, n) - c0, v0 = bound(SHORT, rank, n);
	int wrong = 0;

#define ELEMENT(place, value)                                                                      \
	do {                                                                                       \
		if (set)                                                                           \
			(place) = (value);                                                         \
		else                                                                               \
			wrong += (place) != (value);                                               \
	} while (0)
	for (uint64_t i = 0; i < bound(ROWS, rank + 1, n) - r0; i++)
		for (uint64_t j = 0; j < COLUMNS; j++)
			ELEMENT(s->matrix[i * COLUMNS + j], (float)((r0 + i) * 100 + j));
	for (uint64_t i = 0; i < ROWS; i++)
		for (uint64_t j = 0; j < columns; j++)
			ELEMENT(s->columns[i * columns + j], (float)(i * 1000 + c0 + j));
	for (uint64_t i = 0; i < LARGE; i++)
		ELEMENT(s->large[i], (float)i / 3);
	for (uint64_t i = 0; i < bound(SHORT, rank + 1, n) - v0; i++)
		ELEMENT(s->vector[i], 1 / (double)(v0 + i + 1));
	ELEMENT(s->single, INT64_C(-9007199254740993));
	return wrong;
}

static int save_set(int rank, int n, void *arg)
{
	struct set *s = make_set(rank, n);
	rdt_comm *comm;

	(void)arg;
	each_element(s, rank, n, true);
	s->c.step = 17;
	s->c.position = rank == 0 ? UINT64_MAX : 3; /* rank 0's holds */
	s->c.seed = 5;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &s->c) == 0);
	rdt_comm_destroy(comm);
	free_set(s);
	return 0;
}

static int load_set(int rank, int n, void *arg)
{
	struct set *s = make_set(rank, n);
	rdt_comm *comm;

	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_checkpoint_load(comm, directory, &s->c) == 0);
	RANK_CHECK(s->c.found == 1 && s->c.skipped[0] == '\0');
	RANK_CHECK(s->c.step == 17 && s->c.position == UINT64_MAX && s->c.seed == 5);
	RANK_CHECK(each_element(s, rank, n, false) == 0);
	/* and one tensor alone */
	memset(s->vector, 0, sizeof(s->vector));
	s->c.tensors = &s->tensors[3];
	s->c.n_tensors = 1;
	RANK_CHECK(rdt_checkpoint_load(comm, directory, &s->c) == 0);
	RANK_CHECK(each_element(s, rank, n, false) == 0);
	rdt_comm_destroy(comm);
	free_set(s);
	return 0;
}

static void any_number_of_ranks_loads_what_any_number_has_saved(void **state)
{
	static const int savers[] = { 1, 3, 5 }, loaders[] = { 1, 2, 7 };

	(void)state;
	for (int i = 0; i < 3; i++) {
		clean();
		assert_true(ranks_run(savers[i], 60, save_set, NULL));
		for (int k = 0; k < 3; k++)
			assert_true(ranks_run(loaders[k], 60, load_set, NULL));
	}
}

/* ---- damage -------------------------------------------------------------------------------- */

static rdt_comm *alone; /* a communicator of one */

static struct rdt_checkpoint simple(struct rdt_tensor *t, float *data)
{
	*t = (struct rdt_tensor){ .name = "p", .n_dims = 1, .dims = { 5 }, .data = data };
	return (struct rdt_checkpoint){ .size = sizeof(struct rdt_checkpoint),
					.tensors = t,
					.n_tensors = 1 };
}

static void save_simple(uint64_t step, float first, int keep)
{
	float data[5] = { first, 1, 2, 3, 4 };
	struct rdt_tensor t;
	struct rdt_checkpoint c = simple(&t, data);

	c.step = step;
	c.keep = keep;
	if (rdt_checkpoint_save(alone, directory, &c))
		fail_msg("%s", rdt_last_error());
}

/* Loads; returns the step, or UINT64_MAX when there was none. */
static uint64_t load_simple(float *data, char skipped[2048])
{
	struct rdt_tensor t;
	struct rdt_checkpoint c = simple(&t, data);

	if (rdt_checkpoint_load(alone, directory, &c))
		fail_msg("%s", rdt_last_error());
	memcpy(skipped, c.skipped, 2048);
	return c.found ? c.step : UINT64_MAX;
}

static size_t read_file(const char *name, unsigned char *bytes, size_t n)
{
	FILE *file = fopen(name, "r");

	assert_non_null(file);
	n = fread(bytes, 1, n, file);
	fclose(file);
	return n;
}

static void write_file(const char *name, const unsigned char *bytes, size_t n)
{
	FILE *file = fopen(name, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

static void damage_anywhere_is_found_and_the_one_before_is_used(void **state)
{
	static unsigned char good[4096], bad[4096];
	char newest[256], skipped[2048];
	size_t n;

	(void)state;
	clean();
	save_simple(3, 30, 0);
	save_simple(20, 200, 0);
	snprintf(newest, sizeof(newest), "%s/checkpoint-000000000020.safetensors", directory);
	n = read_file(newest, good, sizeof(good));
	assert_true(n > 100 && n < sizeof(good));
	/* every byte, one bit of it, and every length */
	for (size_t i = 0; i < 2 * n; i++) {
		float data[5] = { 0 };

		memcpy(bad, good, n);
		if (i < n)
			bad[i] ^= (unsigned char)(1u << i % 8);
		write_file(newest, bad, i < n ? n : i - n);
		if (load_simple(data, skipped) != 3)
			fail_msg("damage at byte %zu of %zu was not seen", i % n, n);
		assert_true(data[0] == 30 && data[4] == 4);
		if (!strstr(skipped, newest) || !strstr(skipped, "byte"))
			fail_msg("no name or place: %s", skipped);
	}
	write_file(newest, good, n);
	{
		float data[5] = { 0 };

		assert_int_equal(load_simple(data, skipped), 20);
		assert_string_equal(skipped, "");
		assert_true(data[0] == 200);
	}
	/* more than there should be */
	memcpy(bad, good, n);
	bad[n] = 0;
	write_file(newest, bad, n + 1);
	{
		float data[5] = { 0 };

		assert_int_equal(load_simple(data, skipped), 3);
		assert_non_null(strstr(skipped, "1 bytes behind the data"));
	}
}

static void when_none_is_good_that_is_an_error_and_no_memory_is_touched(void **state)
{
	float data[5] = { 7, 7, 7, 7, 7 };
	struct rdt_tensor t;
	struct rdt_checkpoint c = simple(&t, data);
	char skipped[2048];

	(void)state;
	clean();
	assert_int_equal(load_simple(data, skipped), UINT64_MAX);
	save_simple(1, 1, 0);
	save_simple(2, 2, 0);
	for (int step = 1; step <= 2; step++) {
		snprintf(path, sizeof(path), "%s/checkpoint-%012d.safetensors", directory, step);
		assert_int_equal(truncate(path, step == 1 ? 0 : 300), 0);
	}
	assert_int_equal(rdt_checkpoint_load(alone, directory, &c), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "none of the checkpoints is good"));
	assert_non_null(strstr(rdt_last_error(), "checkpoint-000000000001"));
	assert_non_null(strstr(rdt_last_error(), "checkpoint-000000000002"));
	for (int i = 0; i < 5; i++)
		assert_true(data[i] == 7);
	assert_int_equal(rdt_checkpoint_load(alone, "/nonexistent/folder", &c), 0);
	assert_int_equal(c.found, 0);
}

static void old_ones_go_and_what_a_death_left_behind(void **state)
{
	int files = 0, temporaries = 0;
	struct dirent *file;
	DIR *folder;

	(void)state;
	clean();
	snprintf(path, sizeof(path), "%s/checkpoint-000000000009.safetensors.tmp", directory);
	write_file(path, (const unsigned char *)"x", 1);
	snprintf(path, sizeof(path), "%s/checkpoint-of-mine", directory);
	write_file(path, (const unsigned char *)"x", 1);
	for (uint64_t step = 1; step <= 12; step++)
		save_simple(step, (float)step, 2);
	folder = opendir(directory);
	while ((file = readdir(folder)) != NULL) {
		files += strstr(file->d_name, ".safetensors") != NULL;
		temporaries += strstr(file->d_name, ".tmp") != NULL;
	}
	closedir(folder);
	assert_int_equal(files, 2);
	assert_int_equal(temporaries, 0);
	assert_int_equal(access(path, F_OK), 0);
}

static bool is_there(int step)
{
	snprintf(path, sizeof(path), "%s/checkpoint-%012d.safetensors", directory, step);
	return access(path, F_OK) == 0;
}

static void those_of_another_run_neither_go_nor_push_out_what_was_just_saved(void **state)
{
	(void)state;
	clean();
	for (uint64_t step = 100; step <= 103; step++)
		save_simple(step, 0, 0);
	for (int step = 1; step <= 4; step++) {
		save_simple((uint64_t)step, 0, 2);
		assert_true(is_there(step));
		assert_int_equal(is_there(step - 1), step > 1);
		assert_false(is_there(step - 2));
	}
	for (int step = 100; step <= 103; step++)
		assert_true(is_there(step));
	save_simple(3, 0, 1);
	assert_true(is_there(3) && is_there(4) && is_there(100));
}

/* ---- errors -------------------------------------------------------------------------------- */

/* A link to itself: not even root can open it. */
static int unreadable(int rank, int n, void *arg)
{
	float data[5] = { 7 };
	struct rdt_tensor t = { .name = "p", .n_dims = 1, .dims = { 5 }, .data = data };
	struct rdt_checkpoint c = { .size = sizeof(c), .tensors = &t, .n_tensors = 1, .step = 1 };
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == 0);
	snprintf(path, sizeof(path), "%s/checkpoint-000000000002.safetensors", directory);
	RANK_CHECK(rank || symlink(path, path) == 0);
	RANK_CHECK(rdt_barrier(comm) == 0);
	data[0] = 8;
	RANK_CHECK(rdt_checkpoint_load(comm, directory, &c) == RDT_ERR_SYSTEM);
	RANK_CHECK(strstr(rdt_last_error(), "checkpoint-000000000002"));
	RANK_CHECK(data[0] == 8 && !c.found);
	/* a folder opens, but is not to be read */
	RANK_CHECK(rank || (unlink(path) == 0 && mkdir(path, 0777) == 0));
	RANK_CHECK(rdt_barrier(comm) == 0);
	RANK_CHECK(rdt_checkpoint_load(comm, directory, &c) == RDT_ERR_SYSTEM);
	RANK_CHECK(rdt_barrier(comm) == 0);
	/* a link to nothing is a part that is missing */
	RANK_CHECK(rank || (rmdir(path) == 0 && symlink("nothing", path) == 0));
	RANK_CHECK(rdt_barrier(comm) == 0);
	RANK_CHECK(rdt_checkpoint_load(comm, directory, &c) == 0 && c.found && c.step == 1);
	RANK_CHECK(data[0] == 7 && strstr(c.skipped, "checkpoint-000000000002"));
	rdt_comm_destroy(comm);
	return 0;
}

static void what_the_machine_cannot_read_is_no_damage(void **state)
{
	(void)state;
	clean();
	assert_true(ranks_run(3, 60, unreadable, NULL));
}

static void a_tensor_must_be_in_it_as_it_is_asked_for(void **state)
{
	float data[6] = { 0 };
	struct rdt_tensor t;
	struct rdt_checkpoint c = simple(&t, data);

	(void)state;
	clean();
	save_simple(1, 1, 0);
	save_simple(2, 2, 0);
#define REFUSED(change, words)                                                                     \
	do {                                                                                       \
		c = simple(&t, data);                                                              \
		change;                                                                            \
		assert_int_equal(rdt_checkpoint_load(alone, directory, &c), RDT_ERR_INVALID);      \
		if (!strstr(rdt_last_error(), words))                                              \
			fail_msg("%s", rdt_last_error());                                          \
	} while (0)
	REFUSED(t.name = "q", "000000000002.safetensors has no tensor \"q\"");
	REFUSED(t.type = RDT_INT32, "is of float32, not int32");
	REFUSED(t.dims[0] = 6, "other dimensions");
	REFUSED(t.n_dims = 0, "other dimensions");
	/* wrong arguments */
	REFUSED(t.name = "", "no name");
	REFUSED(t.name = "__metadata__", "no name of its own");
	REFUSED(t.data = NULL, "data is NULL");
	REFUSED(t.n_dims = 9, "9 dimensions");
	REFUSED(t.type = 77, "type 77");
	REFUSED(t.sharded = 1; t.start[0] = 3; t.count[0] = 3, "goes beyond");
	REFUSED(t.sharded = 1; t.start[0] = 3; t.count[0] = UINT64_MAX, "goes beyond");
	REFUSED(t.dims[0] = UINT64_MAX / 2, "larger than all memory");
	REFUSED(c.size = 3, "size is not");
	REFUSED(c.size = 65537, "size is not");
	REFUSED(c.keep = -1, "keep");
	c = simple(&t, data);
	t.name = "\xff";
	assert_int_equal(rdt_checkpoint_save(alone, directory, &c), RDT_ERR_INVALID);
	assert_non_null(strstr(rdt_last_error(), "UTF-8"));
	c = simple(&t, data);
	assert_int_equal(rdt_checkpoint_save(alone, "/dev/null/x", &c), RDT_ERR_SYSTEM);
	assert_non_null(strstr(rdt_last_error(), "rank 0: /dev/null/x"));
	assert_int_equal(rdt_checkpoint_save(NULL, directory, &c), RDT_ERR_INVALID);
	assert_int_equal(rdt_checkpoint_load(NULL, directory, &c), RDT_ERR_INVALID);
}

/* Each of these fails on all ranks, in the same words, and the communicator goes on. */
static int wrong_parts(int rank, int n, void *arg)
{
	float data[12] = { 0 };
	struct rdt_tensor t = { .name = "p",
				.n_dims = 1,
				.dims = { 12 },
				.sharded = 1,
				.start = { 4 * (uint64_t)rank },
				.count = { 4 },
				.data = data };
	struct rdt_checkpoint c = { .size = sizeof(c), .tensors = &t, .n_tensors = 1 };
	rdt_comm *comm;

	(void)n;
	(void)arg;
	RANK_CHECK(rdt_comm_create(NULL, &comm) == 0);
	t.count[0] = rank == 1 ? 3 : 4;
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "have 11 of its 12 elements"));
	t.count[0] = rank == 1 ? 5 : 4;
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == RDT_ERR_INVALID);
	RANK_CHECK(strstr(rdt_last_error(), "ranks 1 and 2 overlap"));
	t.count[0] = 4;
	t.data = rank == 2 ? NULL : data;
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == RDT_ERR_INVALID);
	RANK_CHECK(strcmp(rdt_last_error(), "rank 2: tensor \"p\": data is NULL") == 0);
	t.data = data;
	t.name = rank == 1 ? "q" : "p";
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == RDT_ERR_MISMATCH);
	t.name = "p";
	RANK_CHECK(rdt_checkpoint_save(comm, directory, &c) == 0);
	rdt_comm_destroy(comm);
	return 0;
}

static void parts_must_be_the_tensor(void **state)
{
	(void)state;
	clean();
	assert_true(ranks_run(3, 60, wrong_parts, NULL));
}

/* ---- killed and resumed -------------------------------------------------------------------- */

#define PARAMS 41
#define SAMPLES 30
#define STEPS 11
#define EVERY 3 /* steps between checkpoints */

struct run {
	enum rdt_optimizer_kind kind;
	int victim;
	uint64_t die_at;
};

/* Some gradient that depends on parameters and samples. */
static void add_gradient(const float *p, uint64_t row, float *g)
{
	for (int i = 0; i < PARAMS; i++)
		g[i] += p[i] * 0.3f + sinf((float)(row * 31 + (uint64_t)i));
}

static int train(int rank, int n, void *arg)
{
	const struct run *run = arg;
	uint64_t first = bound(PARAMS, rank, n), count = bound(PARAMS, rank + 1, n) - first;
	struct rdt_sampler_options so = { .size = sizeof(so),
					  .samples = SAMPLES,
					  .batch = 7,
					  .rank = rank,
					  .workers = n,
					  .seed = 4 };
	struct rdt_optimizer_options oo = { .size = sizeof(oo), .kind = run->kind };
	float *large = calloc(LARGE, sizeof(float)), p[PARAMS], g[PARAMS];
	struct rdt_tensor t[4] = {
		{ .name = "params", .n_dims = 1, .dims = { PARAMS }, .data = p },
		{ .name = "large", .n_dims = 1, .dims = { LARGE }, .data = large },
	};
	struct rdt_checkpoint c = { .size = sizeof(c), .tensors = t, .n_tensors = 2, .keep = 2 };
	size_t counts[RANKS_MAX];
	rdt_optimizer *opt;
	rdt_sampler *sampler;
	rdt_comm *comm;
	int status = 0;

	for (int i = 0; i < PARAMS; i++)
		p[i] = cosf((float)i);
	for (int r = 0; r < n; r++)
		counts[r] = bound(PARAMS, r + 1, n) - bound(PARAMS, r, n);
	RANK_CHECK(large && rdt_comm_create(NULL, &comm) == 0);
	RANK_CHECK(rdt_sampler_create(&so, &sampler) == 0);
	RANK_CHECK(rdt_optimizer_create(&oo, count, RDT_FLOAT32, &opt) == 0);
	for (int i = 0; i < rdt_optimizer_states(opt); i++)
		t[c.n_tensors++] = (struct rdt_tensor){ .name = rdt_optimizer_state_name(opt, i),
							.n_dims = 1,
							.dims = { PARAMS },
							.sharded = 1,
							.start = { first },
							.count = { count },
							.data = rdt_optimizer_state(opt, i) };
	status = rdt_checkpoint_load(comm, directory, &c);
	if (rank == 0) {
		told->step = c.step;
		snprintf(told->skipped, sizeof(told->skipped), "%s", c.skipped);
	}
	rdt_sampler_seek(sampler, c.position);
	calls = 0;
	die_at = rank == run->victim ? run->die_at : 0;
	for (uint64_t step = c.step; step < STEPS && !status; step++) {
		struct rdt_batch batch;

		rdt_sampler_next(sampler, &batch);
		memset(g, 0, sizeof(g));
		for (size_t i = 0; i < batch.n; i++)
			add_gradient(p, batch.rows[i], g);
		status = rdt_allreduce(comm, g, g, PARAMS, RDT_FLOAT32, RDT_SUM);
		rdt_optimizer_step(opt, step, 0.01, p + first, g + first);
		if (!status)
			status = rdt_allgatherv(comm, p + first, p, counts, RDT_FLOAT32);
		large[step * 1000 % LARGE] += p[step];
		if (status || (step + 1) % EVERY != 0)
			continue;
		c.step = step + 1;
		c.position = rdt_sampler_position(sampler);
		c.seed = so.seed;
		status = rdt_checkpoint_save(comm, directory, &c);
	}
	if (rank == run->victim)
		told->calls = calls;
	if (rank == 0 && !status) {
		told->finished = 1;
		memcpy(told->params, p, sizeof(p));
	}
	rdt_comm_destroy(comm);
	rdt_optimizer_destroy(opt);
	rdt_sampler_destroy(sampler);
	free(large);
	return status != 0;
}

static void a_resumed_run_has_the_bits_of_one_that_was_not_killed(void **state)
{
	static const enum rdt_optimizer_kind kinds[] = { RDT_ADAM, RDT_MOMENTUM, RDT_SGD };
	const char *transport = getenv("RDTRAIN_TRANSPORT");
	/* Over verbs, where ranks take longer to meet, a few of them. */
	bool few = transport && strcmp(transport, "verbs") == 0;
	int kills = 0, from[STEPS + 1] = { 0 };

	(void)state;
	for (int k = 0; k < 3; k++) {
		struct run run = { .kind = kinds[k], .victim = 0 };
		float expected[PARAMS];
		uint64_t most;

		clean();
		memset(told, 0, sizeof(*told));
		assert_true(ranks_run(3, 60, train, &run));
		memcpy(expected, told->params, sizeof(expected));
		most = told->calls;
		assert_true(most > 3 * 6);
		/* Adam's at each call of rank 0, that has the most, and some of the others' */
		for (uint64_t at = 1; at <= most; at += few ? 11 : k ? 5 : 1)
			for (run.victim = 0; run.victim < (at % 3 ? 1 : 3); run.victim += 2) {
				struct ranks_result result;

				run.die_at = at;
				clean();
				memset(told, 0, sizeof(*told));
				if (ranks_run_result(3, 60, train, &run, &result))
					continue; /* it made fewer calls */
				assert_int_equal(WTERMSIG(result.status[run.victim]), SIGKILL);
				assert_int_equal(told->finished, 0);
				kills++;
				memset(told, 0, sizeof(*told));
				run.die_at = 0;
				assert_true(ranks_run(3, 60, train, &run));
				assert_memory_equal(told->params, expected, sizeof(expected));
				assert_string_equal(told->skipped, "");
				from[told->step]++;
			}
	}
	printf("killed in a system call of a save %d times; resumed from the start %d times, from "
	       "steps 3, 6 and 9 %d, %d and %d times\n",
	       kills, from[0], from[3], from[6], from[9]);
	assert_true(kills > (few ? 4 : 20));
	assert_true(few || (from[0] && from[3] && from[6] && from[9]));
	assert_int_equal(from[0] + from[3] + from[6] + from[9], kills);
}

static int set_up(void **state)
{
	(void)state;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return told == MAP_FAILED || !mkdtemp(temporary);
}

static int tear_down(void **state)
{
	(void)state;
	clean();
	return rmdir(directory);
}

/* Only now: a process with a device open cannot fork ranks that use it. */
static int make_alone(void **state)
{
	(void)state;
	return rdt_comm_create(NULL, &alone);
}

static int end_alone(void **state)
{
	(void)state;
	rdt_comm_destroy(alone);
	return 0;
}

/* With "save DIRECTORY": leaves a checkpoint of three ranks there, for python.py. */
int main(int argc, char **argv)
{
	const struct CMUnitTest of_ranks[] = {
		cmocka_unit_test(any_number_of_ranks_loads_what_any_number_has_saved),
		cmocka_unit_test(parts_must_be_the_tensor),
		cmocka_unit_test(what_the_machine_cannot_read_is_no_damage),
		cmocka_unit_test(a_resumed_run_has_the_bits_of_one_that_was_not_killed),
	};
	const struct CMUnitTest of_one[] = {
		cmocka_unit_test(damage_anywhere_is_found_and_the_one_before_is_used),
		cmocka_unit_test(when_none_is_good_that_is_an_error_and_no_memory_is_touched),
		cmocka_unit_test(old_ones_go_and_what_a_death_left_behind),
		cmocka_unit_test(those_of_another_run_neither_go_nor_push_out_what_was_just_saved),
		cmocka_unit_test(a_tensor_must_be_in_it_as_it_is_asked_for),
	};
	int failed;

	if (argc == 3) {
		directory = argv[2];
		return !ranks_run(3, 60, save_set, NULL);
	}
	ranks_need_device();
	if (set_up(NULL))
		return 1;
	failed = cmocka_run_group_tests(of_ranks, NULL, NULL);
	failed += cmocka_run_group_tests(of_one, make_alone, end_alone);
	return failed + tear_down(NULL) != 0;
}
