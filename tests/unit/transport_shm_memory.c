/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory over the shm transport: what is put arrives whole, and only where it may. */
#include "shm_world.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "lib/memory/alloc.h"

static int count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:") != NULL;
	fclose(f);
	return n;
}

/* ---- data ------------------------------------------------------------------------------------ */

static unsigned char byte_of(int rank, size_t i)
{
	return (unsigned char)(i * 7 + i / 253 + (size_t)rank * 31 + 1);
}

/* Every rank puts blocks of odd sizes at odd places into every other's memory. */
static int put_odd_sizes(struct world *w)
{
	static const size_t sizes[] = { 0, 1, 7, 63, 64, 65, 4097, (1 << 20) + 3 };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), AREA = (1 << 20) + 8192, GUARD = 0xee };
	bool shared = *(bool *)w->arg;
	unsigned char *source = malloc(AREA);
	struct rdt_remote *remotes[WORLD_MAX];
	struct world_memory m;

	CHECK(source);
	TRY(world_connect(w));
	TRY(world_offer(w, &m, (size_t)w->n * AREA, shared)); /* an area for each rank */
	for (size_t i = 0; i < AREA; i++)
		source[i] = byte_of(w->rank, i);
	/* pairs in one order on both sides */
	for (int p = 0; p < w->n; p++)
		if (p != w->rank) {
			TRY(world_swap(w, p, &m, &remotes[p]));
			CHECK((ops->mem_map(remotes[p]) != NULL) == shared);
		}
	for (int s = 0; s < SIZES; s++) {
		size_t at = 100 + 13 * (size_t)s, from = 5 * (size_t)s;

		memset(m.base, GUARD, m.length);
		TRY(world_meet(w));
		for (int p = 0; p < w->n; p++) {
			struct rdt_put put = { .src = source + from,
					       .offset = (size_t)w->rank * AREA + at,
					       .length = sizes[s],
					       .channel = (uint32_t)s,
					       .flags = RDT_PUT_LAST };

			if (p == w->rank)
				continue;
			put.remote = remotes[p];
			TRY(ops->put(w->eps[p], &put));
			CHECK(rdt_ep_head(w->eps[p])->posted == rdt_ep_head(w->eps[p])->completed);
		}
		for (int p = 0; p < w->n; p++) {
			const unsigned char *area = m.base + (size_t)p * AREA;

			if (p == w->rank)
				continue;
			TRY(world_await(w, p, (uint32_t)s, 1));
			for (size_t i = 0; i < AREA; i++)
				CHECK(area[i] == (i >= at && i < at + sizes[s]
							  ? byte_of(p, from + i - at)
							  : GUARD));
		}
		TRY(world_meet(w));
	}
	for (int p = 0; p < w->n; p++)
		if (p != w->rank)
			ops->mem_release(remotes[p]);
	world_withdraw(&m);
	free(source);
	return 0;
}

static void puts_of_odd_sizes_arrive_whole_in_mapped_memory(void **state)
{
	(void)state;
	for (int n = 2; n <= WORLD_MAX; n++)
		assert_true(world_run(n, put_odd_sizes, &(bool){ true }));
}

static void puts_of_odd_sizes_arrive_whole_in_ordinary_memory(void **state)
{
	(void)state;
	if (rdt_shm_cma_refused()) {
		printf("%s\n", rdt_shm_cma_refused());
		skip();
	}
	for (int n = 2; n <= WORLD_MAX; n++)
		assert_true(world_run(n, put_odd_sizes, &(bool){ false }));
}

/* Counters start just below their end and go past it. */
static int wrap(struct world *w)
{
	enum { CHANNEL = 5 };

	TRY(world_connect(w));
	w->eps[1 - w->rank]->out[CHANNEL] = UINT32_MAX - 2;
	TRY(world_meet(w));
	CHECK(world_count(w, 1 - w->rank, CHANNEL) == UINT32_MAX - 2);
	TRY(world_meet(w));
	for (int i = 0; i < 5; i++)
		TRY(world_notify(w, 1 - w->rank, CHANNEL));
	TRY(world_await(w, 1 - w->rank, CHANNEL, 2));
	CHECK(world_count(w, 1 - w->rank, CHANNEL) == 2);
	return world_meet(w);
}

static void a_counter_wraps_around(void **state)
{
	(void)state;
	assert_true(world_run(2, wrap, NULL));
}

/* Two imports from one file: one mapping, which a plain load and store reach. */
static int share_a_mapping(struct world *w)
{
	unsigned char blob[RDT_EXPORT_MAX];
	struct rdt_remote *whole, *part;
	struct world_memory m;
	size_t length;
	int mappings;
	ssize_t n;

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 65536, true));
	m.base[5000] = (unsigned char)(10 + w->rank);
	TRY(world_swap(w, 1 - w->rank, &m, &whole));
	TRY(ops->mem_export(m.region, m.base + 5000, 100, RDT_ACCESS_PUT, blob, &length));
	TRY(world_send(w, 1 - w->rank, blob, length));
	n = world_receive(w, 1 - w->rank, blob, sizeof(blob));
	CHECK(n > 0);
	mappings = count_mappings();
	TRY(ops->mem_import(w->eps[1 - w->rank], blob, (size_t)n, &part));
	CHECK(count_mappings() == mappings);
	CHECK(ops->mem_map(part) == (char *)ops->mem_map(whole) + 5000);
	CHECK(*(unsigned char *)ops->mem_map(part) == 10 + 1 - w->rank);
	*((unsigned char *)ops->mem_map(part) + 1) = 77;
	TRY(world_meet(w));
	CHECK(m.base[5001] == 77);
	ops->mem_release(whole); /* the other still holds the mapping */
	CHECK(*(unsigned char *)ops->mem_map(part) == 10 + 1 - w->rank);
	ops->mem_release(part);
	CHECK(count_mappings() == mappings - 1);
	TRY(world_meet(w));
	world_withdraw(&m);
	return 0;
}

static void imports_from_one_file_share_a_mapping(void **state)
{
	(void)state;
	assert_true(world_run(2, share_a_mapping, NULL));
}

static int refuse_out_of_bounds(struct world *w)
{
	struct rdt_put put = { .src = w, .length = 1 };
	unsigned char blob[RDT_EXPORT_MAX], *bytes = blob;
	int peer = 1 - w->rank;
	struct rdt_remote *remote = NULL, *bad = NULL;
	struct world_memory m;
	size_t length;
	uint64_t value;

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 8192, true));
	/* what the region does not hold is not exported */
	CHECK(ops->mem_export(m.region, m.base, 8193, RDT_ACCESS_PUT, blob, &length) ==
	      RDT_ERR_INVALID);
	CHECK(ops->mem_export(m.region, m.base - 1, 1, RDT_ACCESS_PUT, blob, &length) ==
	      RDT_ERR_INVALID);
	CHECK(ops->mem_export(m.region, m.base + 8192, 1, RDT_ACCESS_PUT, blob, &length) ==
	      RDT_ERR_INVALID);
	CHECK(ops->mem_export(m.region, m.base + 1, SIZE_MAX, RDT_ACCESS_PUT, blob, &length) ==
	      RDT_ERR_INVALID);
	TRY(world_swap(w, peer, &m, &remote));
	/* nor imported: beyond the file's end there would be a SIGBUS */
	for (int k = 0; k < 4; k++) {
		TRY(ops->mem_export(m.region, m.base, 8192, RDT_ACCESS_PUT, blob, &length));
		value = k == 0 ? 8193 : k == 1 ? UINT64_MAX : k == 2 ? 1 : UINT64_MAX;
		memcpy(bytes + (k < 2 ? 16 : 8), &value, sizeof(value));
		CHECK(ops->mem_import(w->eps[peer], blob, length, &bad) == RDT_ERR_INVALID);
	}
	CHECK(ops->mem_import(w->eps[peer], blob, length - 1, &bad) == RDT_ERR_INVALID);
	CHECK(ops->mem_import(w->eps[peer], blob, 0, &bad) == RDT_ERR_INVALID);
	CHECK(bad == NULL);
	/* nor written */
	put.remote = remote;
	put.offset = 8192;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	put.offset = UINT64_MAX;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	put.offset = 0;
	put.length = 8193;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	put.length = 1;
	put.remote = NULL;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	put.remote = remote;
	put.channel = RDT_CHANNELS;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	CHECK(rdt_ep_head(w->eps[peer])->posted == 0);
	/* nothing was notified */
	TRY(world_meet(w));
	CHECK(world_count(w, peer, 0) == 0);
	CHECK(ops->mem_register(w->transport, NULL, 1, -1, 0, &m.region) == RDT_ERR_INVALID);
	CHECK(ops->mem_register(w->transport, m.base, 0, -1, 0, &m.region) == RDT_ERR_INVALID);
	TRY(world_meet(w));
	ops->mem_release(remote);
	world_withdraw(&m);
	return 0;
}

static void what_lies_out_of_bounds_is_refused(void **state)
{
	(void)state;
	assert_true(world_run(2, refuse_out_of_bounds, NULL));
}

/* Each rank publishes a file of its own and reads the other's, in odd pieces. */
static int get_published(struct world *w)
{
	int peer = 1 - w->rank;
	struct rdt_remote *from = NULL;
	struct world_memory m = { .length = 10007 };
	unsigned char got[10007];

	TRY(world_connect(w));
	m.fd = memfd_create("published", MFD_CLOEXEC);
	CHECK(m.fd >= 0 && ftruncate(m.fd, (off_t)m.length) == 0);
	m.base = mmap(NULL, m.length, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	CHECK(m.base != MAP_FAILED);
	TRY(ops->mem_register(w->transport, m.base, m.length, m.fd, 0, &m.region));
	for (size_t i = 0; i < m.length; i++)
		m.base[i] = (unsigned char)(i * 7 + (size_t)w->rank);
	TRY(world_swap(w, peer, &m, &from));
	TRY(world_meet(w));
	CHECK(ops->get(w->eps[peer], from, 10000, got, m.region, 8) == RDT_ERR_INVALID);
	CHECK(ops->get(w->eps[peer], from, UINT64_MAX, got, m.region, 1) == RDT_ERR_INVALID);
	CHECK(ops->get(w->eps[peer], NULL, 0, got, m.region, 1) == RDT_ERR_INVALID);
	CHECK(rdt_ep_head(w->eps[peer])->posted == 0);
	for (size_t done = 0; done < m.length; done += 13) {
		size_t piece = m.length - done < 13 ? m.length - done : 13;

		TRY(ops->get(w->eps[peer], from, done, got + done, m.region, piece));
	}
	CHECK(rdt_ep_head(w->eps[peer])->posted == rdt_ep_head(w->eps[peer])->completed);
	for (size_t i = 0; i < m.length; i++)
		CHECK(got[i] == (unsigned char)(i * 7 + (size_t)peer));
	TRY(world_meet(w));
	ops->shutdown(w->transport);
	CHECK(ops->get(w->eps[peer], from, 0, got, m.region, 1) == RDT_ERR_ABORTED);
	ops->mem_release(from);
	world_withdraw(&m);
	return 0;
}

static void published_memory_is_read_within_its_bounds(void **state)
{
	(void)state;
	assert_true(world_run(2, get_published, NULL));
}

/* How the page at this address may be used here: "r--s". */
static void protection(const void *at, char text[5])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	char line[512];

	text[0] = 0;
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &from, &to, text) == 3 && (uintptr_t)at >= from &&
		    (uintptr_t)at < to)
			break;
	if (maps)
		fclose(maps);
}

/* Rank 0 exports a block for reading, another for writing. */
static int least_privilege(struct world *w)
{
	unsigned char blob[2][RDT_EXPORT_MAX], byte = 1;
	struct rdt_put put = { .src = &byte, .length = 1 };
	struct rdt_region *region[2];
	struct rdt_remote *remote[2];
	struct rdt_block block[2];
	char path[64], text[5];
	size_t length;
	int fd;

	TRY(world_connect(w));
	if (w->rank == 0) {
		for (int i = 0; i < 2; i++) {
			TRY(rdt_block_map(8192, i == 1, &block[i]));
			TRY(ops->mem_register(w->transport, block[i].base, 8192, block[i].memfd, 0,
					      &region[i]));
			CHECK(ops->mem_export(region[i], block[i].base, 8192, 0, blob[i],
					      &length) == RDT_ERR_INVALID);
			TRY(ops->mem_export(region[i], block[i].base, 8192,
					    i ? RDT_ACCESS_PUT : RDT_ACCESS_GET, blob[i], &length));
			TRY(world_send(w, 1, blob[i], length));
		}
		TRY(world_send(w, 1, &block[0].memfd, sizeof(int)));
		TRY(world_meet(w));
		CHECK(*(char *)block[0].base == 0 && *(char *)block[1].base == 1);
		for (int i = 0; i < 2; i++) {
			ops->mem_deregister(region[i]);
			rdt_block_unmap(&block[i]);
		}
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		ssize_t n = world_receive(w, 0, blob[i], sizeof(blob[i]));

		CHECK(n > 0);
		TRY(ops->mem_import(w->eps[0], blob[i], (size_t)n, &remote[i]));
	}
	/* what may be read */
	protection(ops->mem_map(remote[0]), text);
	CHECK(strcmp(text, "r--s") == 0);
	put.remote = remote[0];
	CHECK(ops->put(w->eps[0], &put) == RDT_ERR_INVALID);
	TRY(ops->get(w->eps[0], remote[0], 0, &byte, NULL, 1));
	CHECK(byte == 0);
	/* and by no other way, though it is the same user's */
	CHECK(mprotect(ops->mem_map(remote[0]), 4096, PROT_READ | PROT_WRITE) < 0);
	CHECK(world_receive(w, 0, &fd, sizeof(fd)) == sizeof(fd));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)w->eps[0]->pid, fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, "x", 1) < 0 && errno == EPERM);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
	close(fd);
	/* what may be written */
	byte = 1;
	put.remote = remote[1];
	TRY(ops->put(w->eps[0], &put));
	CHECK(ops->get(w->eps[0], remote[1], 0, &byte, NULL, 1) == RDT_ERR_INVALID);
	TRY(world_meet(w));
	ops->mem_release(remote[0]);
	ops->mem_release(remote[1]);
	return 0;
}

static void memory_is_open_to_what_it_was_exported_for_and_to_nothing_else(void **state)
{
	(void)state;
	assert_true(world_run(2, least_privilege, NULL));
}

/* Both halves of one file, first for reading, then for writing: one mapping. */
static int grow_rights(struct world *w)
{
	unsigned char blob[RDT_EXPORT_MAX], byte = 9;
	int peer = 1 - w->rank, mappings;
	struct rdt_remote *read, *written;
	struct rdt_put put = { .src = &byte, .length = 1 };
	struct world_memory m;
	char text[5];
	size_t length;
	ssize_t n;

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 8192, true));
	TRY(ops->mem_export(m.region, m.base, 4096, RDT_ACCESS_GET, blob, &length));
	TRY(world_send(w, peer, blob, length));
	n = world_receive(w, peer, blob, sizeof(blob));
	CHECK(n > 0);
	TRY(ops->mem_import(w->eps[peer], blob, (size_t)n, &read));
	protection(ops->mem_map(read), text);
	CHECK(strcmp(text, "r--s") == 0);
	mappings = count_mappings();
	TRY(ops->mem_export(m.region, m.base + 4096, 4096, RDT_ACCESS_PUT, blob, &length));
	TRY(world_send(w, peer, blob, length));
	n = world_receive(w, peer, blob, sizeof(blob));
	CHECK(n > 0);
	TRY(ops->mem_import(w->eps[peer], blob, (size_t)n, &written));
	CHECK(count_mappings() == mappings);
	put.remote = read;
	CHECK(ops->put(w->eps[peer], &put) == RDT_ERR_INVALID);
	put.remote = written;
	TRY(ops->put(w->eps[peer], &put));
	TRY(world_meet(w));
	CHECK(m.base[4096] == 9 && m.base[0] == 0);
	ops->mem_release(read);
	ops->mem_release(written);
	TRY(world_meet(w));
	world_withdraw(&m);
	return 0;
}

static void a_mapping_becomes_writable_when_it_has_to(void **state)
{
	(void)state;
	assert_true(world_run(2, grow_rights, NULL));
}

/* Rank 0 has process_vm_writev turned off. */
static int refuse_ordinary(struct world *w)
{
	unsigned char blob[RDT_EXPORT_MAX];
	struct rdt_remote *remote = NULL;
	struct world_memory m;
	size_t length;
	ssize_t n;

	w->config.cma = w->rank != 0;
	TRY(world_connect(w));
	TRY(world_offer(w, &m, 4096, false));
	if (w->rank == 0) {
		CHECK(!ops->mem_exportable(m.region));
		CHECK(ops->mem_export(m.region, m.base, 1, RDT_ACCESS_PUT, blob, &length) ==
		      RDT_ERR_INVALID);
		CHECK(strstr(rdt_last_error(), "RDTRAIN_SHM_CMA=0"));
		n = world_receive(w, 1, blob, sizeof(blob));
		CHECK(n > 0);
		CHECK(ops->mem_import(w->eps[1], blob, (size_t)n, &remote) == RDT_ERR_UNREACHABLE);
		CHECK(strstr(rdt_last_error(), "RDTRAIN_SHM_CMA=0") && !remote);
	} else {
		CHECK(ops->mem_exportable(m.region));
		TRY(ops->mem_export(m.region, m.base, 4096, RDT_ACCESS_PUT, blob, &length));
		TRY(world_send(w, 0, blob, length));
	}
	TRY(world_meet(w));
	world_withdraw(&m);
	return 0;
}

static void ordinary_memory_is_left_alone_when_process_vm_writev_is_turned_off(void **state)
{
	(void)state;
	if (rdt_shm_cma_refused())
		skip();
	assert_true(world_run(2, refuse_ordinary, NULL));
}

/* Ordinary memory that its owner unmaps although it is exported. */
static int put_into_nothing(struct world *w)
{
	struct rdt_put put = { .src = w, .length = 1 };
	struct rdt_remote *remote;
	struct world_memory m;

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 4096, false));
	TRY(world_swap(w, 1 - w->rank, &m, &remote));
	TRY(world_meet(w));
	munmap(m.base, m.length);
	TRY(world_meet(w));
	put.remote = remote;
	CHECK(ops->put(w->eps[1 - w->rank], &put) == RDT_ERR_INVALID);
	CHECK(strstr(rdt_last_error(), "not mapped"));
	TRY(world_meet(w));
	CHECK(world_count(w, 1 - w->rank, 0) == 0);
	return 0; /* region and remote are left to close() */
}

static void a_put_into_memory_that_is_gone_is_an_error_and_no_notification(void **state)
{
	(void)state;
	if (rdt_shm_cma_refused())
		skip();
	assert_true(world_run(2, put_into_nothing, NULL));
}

/* From here on the kernel kills this process for any system call but its end. */
static int forbid_system_calls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	return 0;
}

static int work_without_system_calls(struct world *w)
{
	struct rdt_put put = { .length = 100 };
	struct rdt_remote *remote;
	struct world_memory m;
	unsigned char data[100];

	TRY(world_connect(w));
	TRY(world_offer(w, &m, 4096, true));
	TRY(world_swap(w, 1 - w->rank, &m, &remote));
	TRY(world_meet(w));
	put.src = data;
	put.remote = remote;
	memset(data, 9, sizeof(data));
	fflush(NULL);
	TRY(forbid_system_calls());
	for (uint32_t i = 1; i <= 200; i++) {
		put.channel = i % 5;
		if (ops->put(w->eps[1 - w->rank], &put) || ops->progress(w->transport))
			syscall(SYS_exit_group, 2);
		while (!rdt_reached(world_count(w, 1 - w->rank, i % 5), i / 5 + (i % 5 != 0)))
			;
	}
	syscall(SYS_exit_group, m.base[99] == 9 ? 0 : 3);
	return 1;
}

static void putting_and_progressing_make_no_system_call(void **state)
{
	(void)state;
	assert_true(world_run(2, work_without_system_calls, NULL));
}

static int put_after_shutdown(struct world *w)
{
	TRY(world_connect(w));
	ops->shutdown(w->transport);
	CHECK(world_notify(w, 1 - w->rank, 0) == RDT_ERR_ABORTED);
	TRY(world_meet(w));
	CHECK(world_count(w, 1 - w->rank, 0) == 0);
	return world_meet(w);
}

static void nothing_leaves_after_shutdown(void **state)
{
	(void)state;
	assert_true(world_run(2, put_after_shutdown, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_of_odd_sizes_arrive_whole_in_mapped_memory),
		cmocka_unit_test(puts_of_odd_sizes_arrive_whole_in_ordinary_memory),
		cmocka_unit_test(a_counter_wraps_around),
		cmocka_unit_test(imports_from_one_file_share_a_mapping),
		cmocka_unit_test(what_lies_out_of_bounds_is_refused),
		cmocka_unit_test(
			ordinary_memory_is_left_alone_when_process_vm_writev_is_turned_off),
		cmocka_unit_test(a_put_into_memory_that_is_gone_is_an_error_and_no_notification),
		cmocka_unit_test(putting_and_progressing_make_no_system_call),
		cmocka_unit_test(published_memory_is_read_within_its_bounds),
		cmocka_unit_test(memory_is_open_to_what_it_was_exported_for_and_to_nothing_else),
		cmocka_unit_test(a_mapping_becomes_writable_when_it_has_to),
		cmocka_unit_test(nothing_leaves_after_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
