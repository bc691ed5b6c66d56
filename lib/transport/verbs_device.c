/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which device: every IP address of this host is offered to librdmacm, which knows the RDMA device
 * that owns it; the fastest device with an active port wins, by name among equals. What is missing
 * is said in full, since "no device" alone has cost people days. Makes no connection.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/log.h"
#include "verbs.h"

/* Calls `match` on the items of a comma-separated list; does any match? */
static bool any_item(const char *list, bool (*match)(const char *item, const void *arg),
		     const void *arg)
{
	char item[128];

	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");

		if (n > 0 && n < sizeof(item)) {
			memcpy(item, p, n);
			item[n] = '\0';
			if (match(item, arg))
				return true;
		}
		p += n + (p[n] == ',');
	}
	return false;
}

static bool match_exact(const char *item, const void *ifname)
{
	return strcmp(item[0] == '=' ? item + 1 : item, ifname) == 0;
}

static bool match_prefix(const char *item, const void *ifname)
{
	if (item[0] == '=')
		return match_exact(item, ifname);
	return strncmp(item, ifname, strlen(item)) == 0;
}

bool rdt_verbs_ifname_allowed(const char *filter, const char *ifname)
{
	bool negate;

	if (!filter || !*filter)
		return true;
	negate = *filter == '^';
	filter += negate;
	return any_item(filter, match_prefix, ifname) != negate;
}

struct hca {
	const char *device;
	int port;
};

static bool match_hca(const char *item, const void *arg)
{
	const struct hca *hca = arg;
	const char *colon;

	item += item[0] == '='; /* always exact; people write it all the same */
	colon = strchr(item, ':');
	if (!colon)
		return strcmp(item, hca->device) == 0;
	return strlen(hca->device) == (size_t)(colon - item) &&
	       strncmp(item, hca->device, (size_t)(colon - item)) == 0 &&
	       atoi(colon + 1) == hca->port;
}

bool rdt_verbs_hca_allowed(const char *filter, const char *device, int port)
{
	struct hca hca = { device, port };
	bool negate;

	if (!filter || !*filter)
		return true;
	negate = *filter == '^';
	filter += negate;
	return any_item(filter, match_hca, &hca) != negate;
}

/* The first name in a folder that begins with `prefix`. */
static bool first_entry(const char *folder, const char *prefix, char *name, size_t size)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(name, size, "%s", entry->d_name);
		found = true;
	}
	closedir(dir);
	return found;
}

bool rdt_verbs_present(const char *sys, const char *dev, char *why, size_t size)
{
	char path[512], device[256], node[256];
	int fd;

	snprintf(path, sizeof(path), "%s/class/infiniband", sys);
	if (access(path, F_OK) != 0) {
		snprintf(why, size,
			 "the kernel has no RDMA support loaded (there is no %s): load the "
			 "adapter's driver, or for soft-RoCE `modprobe rdma_rxe`",
			 path);
		return false;
	}
	if (!first_entry(path, "", device, sizeof(device))) {
		snprintf(why, size,
			 "there is no RDMA device (%s is empty): load the adapter's driver, or for "
			 "soft-RoCE `rdma link add rxe0 type rxe netdev INTERFACE`",
			 path);
		return false;
	}
	snprintf(path, sizeof(path), "%s/infiniband", dev);
	if (access(path, F_OK) != 0) {
		snprintf(why, size,
			 "device %s exists but %s does not: a container needs `--device "
			 "/dev/infiniband --ulimit memlock=-1`; on a host `modprobe ib_uverbs "
			 "rdma_ucm`",
			 device, path);
		return false;
	}
	if (!first_entry(path, "uverbs", node, sizeof(node))) {
		snprintf(why, size,
			 "device %s exists but there is no %s/uverbs*: `modprobe ib_uverbs`, or "
			 "give "
			 "the container all of /dev/infiniband",
			 device, path);
		return false;
	}
	snprintf(path, sizeof(path), "%s/infiniband/%s", dev, node);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		snprintf(
			why, size,
			"%s cannot be opened: %s; give this user read and write access to it (udev "
			"rule, group, or the container's --device)",
			path, strerror(errno));
		return false;
	}
	close(fd);
	snprintf(path, sizeof(path), "%s/infiniband/rdma_cm", dev);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		snprintf(why, size,
			 "%s cannot be opened: %s; `modprobe rdma_ucm`, or give the container all "
			 "of "
			 "/dev/infiniband",
			 path, strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

double rdt_verbs_rate(const struct ibv_port_attr *port)
{
	static const struct {
		int code;
		double gbps;
	} speeds[] = { { 1, 2.5 }, { 2, 5 },   { 4, 10 },  { 8, 10 },
		       { 16, 14 }, { 32, 25 }, { 64, 50 }, { 128, 100 } };
	static const struct {
		int code, lanes;
	} widths[] = { { 1, 1 }, { 2, 4 }, { 4, 8 }, { 8, 12 }, { 16, 2 } };
	double gbps = 0;
	int lanes = 1;

	for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		if (speeds[i].code == port->active_speed)
			gbps = speeds[i].gbps;
	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
		if (widths[i].code == port->active_width)
			lanes = widths[i].lanes;
	return gbps * lanes;
}

static void note(rdt_info_fn fn, void *arg, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void note(rdt_info_fn fn, void *arg, const char *format, ...)
{
	char line[512];
	va_list args;

	if (!fn)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	fn(arg, line);
}

static int prefix_length(const struct sockaddr *mask)
{
	struct rdt_verbs_addr m;
	int bits = 0;

	if (!mask || !rdt_verbs_from_sockaddr(mask, &m))
		return 0;
	for (int i = 0; i < (m.family == 4 ? 4 : 16); i++)
		bits += __builtin_popcount(m.ip[i]);
	return bits;
}

/* Everything the choice has met, so that an empty outcome can be explained. */
struct tally {
	int addresses, by_ifname, no_rdma, by_hca, down;
	char example[128];
};

struct candidate {
	struct rdt_verbs_local local;
	struct ibv_context *ctx;
	struct ibv_port_attr attr;
};

/* Is this address of use? Then the candidate holds an id bound to it. */
static bool consider(const struct rdt_transport_config *config, struct rdma_event_channel *events,
		     const struct ifaddrs *ifa, rdt_info_fn fn, void *arg, struct tally *tally,
		     struct candidate *c)
{
	char text[RDT_VERBS_ADDR_TEXT];
	struct rdt_verbs_local *local = &c->local;
	struct sockaddr_storage sa;
	const char *device;

	memset(c, 0, sizeof(*c));
	if (!ifa->ifa_addr || !rdt_verbs_from_sockaddr(ifa->ifa_addr, &local->addr))
		return false;
	if (!(ifa->ifa_flags & IFF_UP) || (ifa->ifa_flags & IFF_LOOPBACK))
		return false; /* 127.0.0.1 names no device that a peer could reach */
	if (local->addr.family == 6 && local->addr.ip[0] == 0xfe &&
	    (local->addr.ip[1] & 0xc0) == 0x80)
		return false; /* a link-local address means something else on every host */
	rdt_verbs_addr_text(&local->addr, text);
	tally->addresses++;
	if (!rdt_verbs_ifname_allowed(config->ifname, ifa->ifa_name)) {
		tally->by_ifname++;
		note(fn, arg, "address %s on %s: excluded by RDTRAIN_SOCKET_IFNAME=%s", text,
		     ifa->ifa_name, config->ifname);
		return false;
	}
	if (rdma_create_id(events, &local->id, NULL, RDMA_PS_TCP) != 0) {
		note(fn, arg, "address %s on %s: librdmacm: %s", text, ifa->ifa_name,
		     strerror(errno));
		local->id = NULL;
		return false;
	}
	rdt_verbs_sockaddr(&local->addr, false, &sa);
	if (rdma_bind_addr(local->id, (struct sockaddr *)&sa) != 0 || !local->id->verbs) {
		tally->no_rdma++;
		note(fn, arg, "address %s on %s: no RDMA device has it", text, ifa->ifa_name);
		goto drop;
	}
	device = ibv_get_device_name(local->id->verbs->device);
	snprintf(local->ifname, sizeof(local->ifname), "%.15s", ifa->ifa_name);
	local->prefix = prefix_length(ifa->ifa_netmask);
	local->port = local->id->port_num;
	c->ctx = local->id->verbs;
	if (!rdt_verbs_hca_allowed(config->ib_hca, device, local->port)) {
		tally->by_hca++;
		snprintf(tally->example, sizeof(tally->example), "%.63s:%d", device, local->port);
		note(fn, arg, "address %s on %s: %s port %d is excluded by RDTRAIN_IB_HCA=%s", text,
		     ifa->ifa_name, device, local->port, config->ib_hca);
		goto drop;
	}
	if (ibv_query_port(c->ctx, (uint8_t)local->port, &c->attr) != 0 ||
	    c->attr.state != IBV_PORT_ACTIVE) {
		tally->down++;
		snprintf(tally->example, sizeof(tally->example), "%.63s port %d is %s", device,
			 local->port, ibv_port_state_str(c->attr.state));
		note(fn, arg, "address %s on %s: %s", text, ifa->ifa_name, tally->example);
		goto drop;
	}
	return true;
drop:
	rdma_destroy_id(local->id);
	local->id = NULL;
	return false;
}

static bool better(const struct candidate *a, const struct candidate *b)
{
	double rate_a = rdt_verbs_rate(&a->attr), rate_b = rdt_verbs_rate(&b->attr);

	if (rate_a != rate_b)
		return rate_a > rate_b;
	return strverscmp(ibv_get_device_name(a->ctx->device),
			  ibv_get_device_name(b->ctx->device)) < 0;
}

static int nothing_usable(const struct rdt_transport_config *config, const struct tally *tally)
{
	if (tally->down)
		return rdt_err(RDT_ERR_NO_DEVICE,
			       "verbs: no active port: %s; `ip link set INTERFACE up`, check the "
			       "cable, `rdma link`",
			       tally->example);
	if (tally->by_hca)
		return rdt_err(
			RDT_ERR_NO_DEVICE,
			"verbs: RDTRAIN_IB_HCA=%s leaves no device; one that is excluded: %s "
			"(names are compared exactly)",
			config->ib_hca, tally->example);
	if (tally->addresses && tally->by_ifname == tally->addresses)
		return rdt_err(RDT_ERR_NO_DEVICE,
			       "verbs: RDTRAIN_SOCKET_IFNAME=%s excludes every interface",
			       config->ifname);
	return rdt_err(RDT_ERR_NO_DEVICE,
		       "verbs: no RDMA device has an IP address (%d addresses of this host looked "
		       "at%s): give one to the device's interface, `ip addr add ADDRESS/PREFIX dev "
		       "INTERFACE` (for InfiniBand the IPoIB interface); `rdma link` shows which "
		       "interface is whose",
		       tally->addresses,
		       tally->by_ifname ? ", some excluded by RDTRAIN_SOCKET_IFNAME" : "");
}

int rdt_verbs_choose(const struct rdt_transport_config *config, struct rdma_event_channel *events,
		     rdt_info_fn fn, void *arg, struct rdt_verbs_choice *choice)
{
	struct candidate found[RDT_VERBS_ADDRESSES * 4];
	const int room = (int)(sizeof(found) / sizeof(found[0]));
	struct ifaddrs *list = NULL;
	struct tally tally = { 0 };
	int n = 0, best = -1;

	memset(choice, 0, sizeof(*choice));
	if (getifaddrs(&list) != 0)
		return rdt_err_errno(RDT_ERR_SYSTEM, "verbs: cannot list the host's addresses");
	for (struct ifaddrs *ifa = list; ifa && n < room; ifa = ifa->ifa_next)
		if (consider(config, events, ifa, fn, arg, &tally, &found[n]))
			n++;
	freeifaddrs(list);
	for (int i = 0; i < n; i++)
		if (best < 0 || better(&found[i], &found[best]))
			best = i;
	if (best < 0)
		return nothing_usable(config, &tally);

	choice->ctx = found[best].ctx;
	choice->port = found[best].local.port;
	choice->port_attr = found[best].attr;
	snprintf(choice->device, sizeof(choice->device), "%s",
		 ibv_get_device_name(choice->ctx->device));
	for (int i = 0; i < n; i++) {
		char text[RDT_VERBS_ADDR_TEXT];
		const char *device = ibv_get_device_name(found[i].ctx->device);
		bool taken = found[i].ctx == choice->ctx && choice->n < RDT_VERBS_ADDRESSES;
		bool rail = rdt_verbs_rate(&found[i].attr) == rdt_verbs_rate(&choice->port_attr) &&
			    found[i].attr.link_layer == choice->port_attr.link_layer;

		note(fn, arg, "address %s on %s: %s port %d, %g Gbit/s, %s",
		     rdt_verbs_addr_text(&found[i].local.addr, text), found[i].local.ifname, device,
		     found[i].local.port, rdt_verbs_rate(&found[i].attr),
		     taken ? "chosen: the fastest active device, first by name"
		     : found[i].ctx == choice->ctx ? "not used, the device has enough addresses"
		     : rail ? "as fast as the chosen one, and used beside it (RDTRAIN_IB_RAILS)"
			    : "not used, another device was chosen");
		if (taken)
			choice->local[choice->n++] = found[i].local;
		else
			rdma_destroy_id(found[i].local.id);
	}
	return 0;
}

void rdt_verbs_unchoose(struct rdt_verbs_choice *choice)
{
	for (int i = 0; i < choice->n; i++)
		rdma_destroy_id(choice->local[i].id);
	choice->n = 0;
}

struct found_device {
	char name[72]; /* with its port */
	struct ibv_port_attr attr;
	char device[64];
};

static bool device_before(const struct found_device *a, const struct found_device *b)
{
	double rate_a = rdt_verbs_rate(&a->attr), rate_b = rdt_verbs_rate(&b->attr);

	return rate_a != rate_b ? rate_a > rate_b : strverscmp(a->name, b->name) < 0;
}

/* Into its place among those that were found before, best first. */
static int insert(struct found_device *list, int n, const struct found_device *one)
{
	int at = n;

	for (int i = 0; i < n; i++)
		if (strcmp(list[i].device, one->device) == 0)
			return n; /* another address of it */
	while (at > 0 && device_before(one, &list[at - 1])) {
		list[at] = list[at - 1];
		at--;
	}
	list[at] = *one;
	return n + 1;
}

int rdt_verbs_rails(const struct rdt_transport_config *config, char names[][72], int max)
{
	struct rdma_event_channel *events = rdma_create_event_channel();
	struct found_device list[RDT_VERBS_RAILS * 8 + 1];
	struct ifaddrs *addresses = NULL;
	struct tally tally = { 0 };
	struct candidate c;
	int n = 0, rails = 0;

	if (!events || getifaddrs(&addresses) != 0) {
		if (events)
			rdma_destroy_event_channel(events);
		return 0;
	}
	for (struct ifaddrs *ifa = addresses; ifa && n < RDT_VERBS_RAILS * 8; ifa = ifa->ifa_next) {
		struct found_device one;

		if (!consider(config, events, ifa, NULL, NULL, &tally, &c))
			continue;
		one.attr = c.attr;
		snprintf(one.device, sizeof(one.device), "%s", ibv_get_device_name(c.ctx->device));
		snprintf(one.name, sizeof(one.name), "%.63s:%d", one.device, c.local.port);
		n = insert(list, n, &one);
		rdma_destroy_id(c.local.id);
	}
	freeifaddrs(addresses);
	rdma_destroy_event_channel(events);
	for (int i = 0; i < n && rails < max; i++)
		if (rdt_verbs_rate(&list[i].attr) == rdt_verbs_rate(&list[0].attr) &&
		    list[i].attr.link_layer == list[0].attr.link_layer)
			memcpy(names[rails++], list[i].name, sizeof(names[0]));
	return rails;
}
