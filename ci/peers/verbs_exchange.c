/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an exchange of 8 bytes costs on a verbs device, with nothing around it: two processes, each
 * of which writes its word into the other's memory with an immediate and waits for the other's, as
 * an allreduce between two ranks must. ib_write_lat is half of a round trip, in which one of the
 * two is idle; where posting takes the processor's time (soft-RoCE delivers, acknowledges and
 * completes within the call), both together take longer. Prints
 *
 *	MEDIAN_US P99_US POST_US
 *
 * usage: verbs_exchange ADDRESS PORT		listens, then connects to itself from a child
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>

#include "bench.h"

#define ROUNDS 2000
#define RECEIVES 64
#define SIGNAL_EVERY 32

struct place {
	uint64_t addr;
	uint32_t rkey;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Both completion queues; returns how many notifications came. */
static int poll_queues(struct rdma_cm_id *id)
{
	struct ibv_wc wc[8];
	int notified = 0, n;

	for (int q = 0; q < 2; q++) {
		n = ibv_poll_cq(q ? id->send_cq : id->recv_cq, 8, wc);
		for (int i = 0; i < n; i++) {
			struct ibv_recv_wr again = { 0 }, *bad;

			if (wc[i].status != IBV_WC_SUCCESS) {
				fprintf(stderr, "completion: %s\n",
					ibv_wc_status_str(wc[i].status));
				exit(1);
			}
			if (q == 0 && (++notified, ibv_post_recv(id->qp, &again, &bad)))
				die("ibv_post_recv");
		}
	}
	return notified;
}

static void exchange(struct rdma_cm_id *id, const struct place *peer, int tell)
{
	static double samples[ROUNDS], posts[ROUNDS];
	int here = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = (uint64_t)i;
		struct ibv_sge sge = { (uintptr_t)&word, sizeof(word), 0 };
		struct ibv_send_wr *bad,
			wr = { .sg_list = &sge,
			       .num_sge = 1,
			       .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
			       .send_flags = IBV_SEND_INLINE |
					     (i % SIGNAL_EVERY ? 0u : IBV_SEND_SIGNALED),
			       .wr.rdma = { .remote_addr = peer->addr, .rkey = peer->rkey } };
		double from = bench_now();

		if (ibv_post_send(id->qp, &wr, &bad))
			die("ibv_post_send");
		posts[i] = bench_now() - from;
		while (here <= i)
			here += poll_queues(id);
		samples[i] = bench_now() - from;
	}
	qsort(samples, ROUNDS, sizeof(*samples), bench_compare);
	qsort(posts, ROUNDS, sizeof(*posts), bench_compare);
	if (tell)
		printf("%.3f %.3f %.3f\n", samples[ROUNDS / 2], samples[ROUNDS * 99 / 100],
		       posts[ROUNDS / 2]);
}

static void run(const char *address, const char *port, int passive)
{
	struct rdma_addrinfo hints = { .ai_port_space = RDMA_PS_TCP,
				       .ai_flags = passive ? RAI_PASSIVE : 0 },
			     *found;
	struct ibv_qp_init_attr attr = { .cap = { .max_send_wr = 2 * SIGNAL_EVERY,
						  .max_recv_wr = RECEIVES,
						  .max_send_sge = 1,
						  .max_recv_sge = 1,
						  .max_inline_data = 64 },
					 .qp_type = IBV_QPT_RC };
	struct rdma_conn_param param = { .retry_count = 6, .rnr_retry_count = 6 };
	struct rdma_cm_id *listener, *id;
	struct ibv_recv_wr receive = { 0 }, *bad;
	struct place mine, peer;
	static uint64_t words[8];
	struct ibv_mr *mr;

	if (rdma_getaddrinfo(address, port, &hints, &found))
		die("rdma_getaddrinfo");
	if (rdma_create_ep(passive ? &listener : &id, found, NULL, &attr))
		die("rdma_create_ep");
	if (passive && (rdma_listen(listener, 1) || rdma_get_request(listener, &id)))
		die("rdma_get_request");
	mr = ibv_reg_mr(id->pd, words, sizeof(words),
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!mr)
		die("ibv_reg_mr");
	for (int i = 0; i < RECEIVES; i++)
		if (ibv_post_recv(id->qp, &receive, &bad))
			die("ibv_post_recv");
	mine = (struct place){ (uintptr_t)words, mr->rkey };
	param.private_data = &mine;
	param.private_data_len = sizeof(mine);
	if (passive)
		memcpy(&peer, id->event->param.conn.private_data, sizeof(peer));
	if (passive ? rdma_accept(id, &param) : rdma_connect(id, &param))
		die("connection");
	if (!passive)
		memcpy(&peer, id->event->param.conn.private_data, sizeof(peer));
	exchange(id, &peer, passive);
	sleep(1); /* for the other's last word */
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;

	if (argc != 3) {
		fprintf(stderr, "usage: verbs_exchange ADDRESS PORT\n");
		return 2;
	}
	bench_now(); /* finds out what a tick is */
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0)
		sleep(1); /* until the parent listens */
	run(argv[1], argv[2], child != 0);
	fflush(stdout);
	if (child == 0)
		_exit(0);
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
