/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `rdtrain info` prints about verbs: every device, port and GID, the limits that matter, and
 * what a communicator would use here, or exactly why it would use nothing. It opens a real
 * transport to find out, so that it cannot disagree with one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/memlock.h"
#include "verbs.h"

struct printer {
	rdt_info_fn line;
	void *arg;
};

static void say(const struct printer *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(const struct printer *p, const char *format, ...)
{
	char text[640];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p->line(p->arg, text);
}

static const char *gid_type(uint32_t type)
{
	switch (type) {
	case IBV_GID_TYPE_IB: return "InfiniBand";
	case IBV_GID_TYPE_ROCE_V1: return "RoCE v1";
	case IBV_GID_TYPE_ROCE_V2: return "RoCE v2";
	default: return "unknown type";
	}
}

static const char *link_layer(uint8_t layer)
{
	switch (layer) {
	case IBV_LINK_LAYER_INFINIBAND: return "InfiniBand";
	case IBV_LINK_LAYER_ETHERNET: return "Ethernet";
	default: return "unspecified link";
	}
}

static void say_gids(const struct printer *p, struct ibv_context *ctx, int port, size_t room)
{
	struct ibv_gid_entry *gids = calloc(room ? room : 1, sizeof(*gids));
	ssize_t n = gids ? ibv_query_gid_table(ctx, gids, room, 0) : -ENOMEM;

	if (n < 0)
		say(p, "  GIDs cannot be read: %s", strerror((int)-n));
	for (ssize_t i = 0; i < n; i++) {
		char text[INET6_ADDRSTRLEN], ifname[IF_NAMESIZE] = "no interface";

		if ((int)gids[i].port_num != port)
			continue;
		if (gids[i].ndev_ifindex && !if_indextoname(gids[i].ndev_ifindex, ifname))
			snprintf(ifname, sizeof(ifname), "if%u", gids[i].ndev_ifindex);
		say(p, "  gid %u: %s, %s, %s", gids[i].gid_index,
		    inet_ntop(AF_INET6, gids[i].gid.raw, text, sizeof(text)),
		    gid_type(gids[i].gid_type), ifname);
	}
	free(gids);
}

/* Entries of all ports together: the table is read whole. */
static size_t gid_room(struct ibv_context *ctx, int ports)
{
	size_t room = 0;

	for (int port = 1; port <= ports; port++) {
		struct ibv_port_attr pa;

		if (ibv_query_port(ctx, (uint8_t)port, &pa) == 0 && pa.gid_tbl_len > 0)
			room += (size_t)pa.gid_tbl_len;
	}
	return room;
}

static void say_device(const struct printer *p, struct ibv_device *device)
{
	const char *name = ibv_get_device_name(device);
	struct ibv_context *ctx = ibv_open_device(device);
	struct ibv_device_attr attr;

	if (!ctx) {
		say(p, "device %s: cannot be opened: %s", name, strerror(errno));
		return;
	}
	if (ibv_query_device(ctx, &attr) != 0) {
		say(p, "device %s: gives no answer: %s", name, strerror(errno));
		goto out;
	}
	say(p,
	    "device %s: %d port%s, firmware %.32s, queue pairs %d of %d requests, shared receive "
	    "queues %d of %d, completions %d, regions %d of up to %llu MiB",
	    name, attr.phys_port_cnt, attr.phys_port_cnt == 1 ? "" : "s",
	    attr.fw_ver[0] ? attr.fw_ver : "unknown", attr.max_qp, attr.max_qp_wr, attr.max_srq,
	    attr.max_srq_wr, attr.max_cqe, attr.max_mr,
	    (unsigned long long)(attr.max_mr_size >> 20));
	for (int port = 1; port <= attr.phys_port_cnt; port++) {
		struct ibv_port_attr pa;

		if (ibv_query_port(ctx, (uint8_t)port, &pa) != 0) {
			say(p, "device %s port %d: gives no answer: %s", name, port,
			    strerror(errno));
			continue;
		}
		say(p,
		    "device %s port %d: %s, %s, %g Gbit/s, mtu %d (of %d), messages up to %u KiB",
		    name, port, ibv_port_state_str(pa.state), link_layer(pa.link_layer),
		    rdt_verbs_rate(&pa), 128 << pa.active_mtu, 128 << pa.max_mtu,
		    pa.max_msg_sz >> 10);
		say_gids(p, ctx, port, gid_room(ctx, attr.phys_port_cnt));
	}
out:
	ibv_close_device(ctx);
}

static void say_memlock(const struct printer *p)
{
	struct rdt_memlock memlock;

	rdt_memlock_read(&memlock);
	if (memlock.limit == UINT64_MAX)
		say(p, "locked memory: unlimited");
	else if (memlock.exempt)
		say(p, "locked memory: limit %llu KiB, not enforced here (CAP_IPC_LOCK)",
		    (unsigned long long)(memlock.limit >> 10));
	else
		say(p,
		    "locked memory: limit %llu KiB%s; gradients are registered whole: `ulimit -l "
		    "unlimited`, or `docker run --ulimit memlock=-1`",
		    (unsigned long long)(memlock.limit >> 10),
		    memlock.limit < 64u << 20 ? ", too little for most models" : "");
}

bool rdt_verbs_info(const struct rdt_transport_config *config, rdt_info_fn line, void *arg)
{
	struct rdt_transport_config alone = {
		.ib_timeout = -1, .ib_retry_cnt = -1, .ib_tc = -1, .ib_sl = -1
	};
	const struct printer p = { line, arg };
	char text[RDT_VERBS_ADDR_TEXT], why[400];
	struct ibv_device **list;
	struct rdt_verbs *t;
	int n = 0;

	if (config)
		alone = *config;
	alone.rank = 0;
	alone.size = 1;
	say_memlock(&p);
	if (!rdt_verbs_present("/sys", "/dev", why, sizeof(why))) {
		say(&p, "not usable: %s", why);
		return false;
	}
	list = ibv_get_device_list(&n);
	if (!list)
		say(&p, "libibverbs cannot list the devices: %s", strerror(errno));
	else if (n == 0)
		say(&p, "libibverbs has no driver for the devices in /sys/class/infiniband: "
			"install ibverbs-providers (rdma-core)");
	for (int i = 0; i < n; i++)
		say_device(&p, list[i]);
	if (list)
		ibv_free_device_list(list);

	if (rdt_verbs_open(&alone, line, arg, &t) != 0) {
		say(&p, "not usable: %s", rdt_last_error());
		return false;
	}
	say(&p,
	    "usable: %s port %d, address %s port %u (%d in all), inline %u bytes, send queues of "
	    "%u, receives up to %ld, messages up to %llu KiB, ack timeout 2^%d * 4.096 us with %d "
	    "retries",
	    t->choice.device, t->choice.port, rdt_verbs_addr_text(&t->choice.local[0].addr, text),
	    t->choice.local[0].addr.port, t->choice.n, t->max_inline, t->sq_depth, t->srq_depth,
	    (unsigned long long)(t->max_msg >> 10), t->ib_timeout, t->ib_retry);
	rdt_verbs_close(t);
	return true;
}
