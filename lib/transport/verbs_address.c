/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses: the blob that ranks exchange beforehand, the hello that both ends of a connection say,
 * and which pairs of addresses are worth a try. Talks to no device.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/error.h"
#include "verbs.h"

#define BLOB_MAGIC 0x31565452u	/* "RTV1" */
#define HELLO_MAGIC 0x31485452u /* "RTH1" */

/* All numbers little-endian. */
struct blob_head {
	uint32_t magic, generation, rank;
	uint8_t link_layer, n;
	uint16_t zero;
	uint64_t nonce_hash;
	char device[32];
};

struct blob_addr {
	uint16_t family, port;
	uint8_t ip[16];
};

struct hello_wire {
	uint32_t magic, generation, from, to;
	unsigned char nonce[RDT_NONCE_BYTES];
};

_Static_assert(sizeof(struct blob_head) + RDT_VERBS_ADDRESSES * sizeof(struct blob_addr) <=
		       RDT_ADDRESS_MAX,
	       "the address blob fits");
_Static_assert(sizeof(struct hello_wire) == RDT_VERBS_HELLO_BYTES, "the hello has no padding");

/* FNV-1a: to tell addresses of different jobs apart, not to hide anything. */
uint64_t rdt_verbs_hash(const void *bytes, size_t length)
{
	const unsigned char *p = bytes;
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ p[i]) * 0x100000001b3u;
	return hash;
}

size_t rdt_verbs_address_pack(const struct rdt_verbs_peer *peer, void *blob)
{
	struct blob_head head = {
		.magic = htole32(BLOB_MAGIC),
		.generation = htole32(peer->generation),
		.rank = htole32(peer->rank),
		.link_layer = peer->link_layer,
		.n = (uint8_t)peer->n,
		.nonce_hash = htole64(peer->nonce_hash),
	};
	char *out = blob;

	memcpy(head.device, peer->device, sizeof(head.device));
	memcpy(out, &head, sizeof(head));
	out += sizeof(head);
	for (int i = 0; i < peer->n; i++, out += sizeof(struct blob_addr)) {
		struct blob_addr addr = {
			.family = htole16(peer->addr[i].family),
			.port = htole16(peer->addr[i].port),
		};

		memcpy(addr.ip, peer->addr[i].ip, sizeof(addr.ip));
		memcpy(out, &addr, sizeof(addr));
	}
	return (size_t)(out - (char *)blob);
}

bool rdt_verbs_address_unpack(const void *blob, size_t length, struct rdt_verbs_peer *peer)
{
	const char *in = blob;
	struct blob_head head;

	if (length < sizeof(head))
		return false;
	memcpy(&head, in, sizeof(head));
	in += sizeof(head);
	if (le32toh(head.magic) != BLOB_MAGIC || head.n == 0 || head.n > RDT_VERBS_ADDRESSES ||
	    length != sizeof(head) + head.n * sizeof(struct blob_addr))
		return false;
	*peer = (struct rdt_verbs_peer){
		.generation = le32toh(head.generation),
		.rank = le32toh(head.rank),
		.link_layer = head.link_layer,
		.nonce_hash = le64toh(head.nonce_hash),
		.n = head.n,
	};
	memcpy(peer->device, head.device, sizeof(peer->device));
	peer->device[sizeof(peer->device) - 1] = '\0';
	for (int i = 0; i < peer->n; i++, in += sizeof(struct blob_addr)) {
		struct blob_addr addr;

		memcpy(&addr, in, sizeof(addr));
		if ((le16toh(addr.family) != 4 && le16toh(addr.family) != 6) || addr.port == 0)
			return false;
		peer->addr[i].family = (uint8_t)le16toh(addr.family);
		peer->addr[i].port = le16toh(addr.port);
		memcpy(peer->addr[i].ip, addr.ip, sizeof(addr.ip));
	}
	return true;
}

void rdt_verbs_hello_pack(const struct rdt_verbs_hello *hello,
			  unsigned char bytes[RDT_VERBS_HELLO_BYTES])
{
	struct hello_wire wire = {
		.magic = htole32(HELLO_MAGIC),
		.generation = htole32(hello->generation),
		.from = htole32(hello->from),
		.to = htole32(hello->to),
	};

	memcpy(wire.nonce, hello->nonce, sizeof(wire.nonce));
	memcpy(bytes, &wire, sizeof(wire));
}

/* InfiniBand pads connection data to its full length, so more bytes than ours are no fault. */
bool rdt_verbs_hello_unpack(const void *bytes, size_t length, struct rdt_verbs_hello *hello)
{
	struct hello_wire wire;

	if (!bytes || length < sizeof(wire))
		return false;
	memcpy(&wire, bytes, sizeof(wire));
	if (le32toh(wire.magic) != HELLO_MAGIC)
		return false;
	hello->generation = le32toh(wire.generation);
	hello->from = le32toh(wire.from);
	hello->to = le32toh(wire.to);
	memcpy(hello->nonce, wire.nonce, sizeof(hello->nonce));
	return true;
}

static bool same_subnet(const struct rdt_verbs_addr *a, const struct rdt_verbs_addr *b, int prefix)
{
	int bytes = prefix / 8, bits = prefix % 8;

	if (memcmp(a->ip, b->ip, (size_t)bytes) != 0)
		return false;
	return bits == 0 || (a->ip[bytes] ^ b->ip[bytes]) >> (8 - bits) == 0;
}

int rdt_verbs_pairs(const struct rdt_verbs_local *local, int nlocal,
		    const struct rdt_verbs_addr *peer, int npeer, int (*pairs)[2], int max)
{
	int n = 0;

	/* neighbours first, then what only a router can join */
	for (int near = 1; near >= 0; near--) {
		for (int i = 0; i < nlocal; i++) {
			for (int j = 0; j < npeer && n < max; j++) {
				if (local[i].addr.family != peer[j].family ||
				    same_subnet(&local[i].addr, &peer[j], local[i].prefix) != near)
					continue;
				pairs[n][0] = i;
				pairs[n][1] = j;
				n++;
			}
		}
	}
	return n;
}

socklen_t rdt_verbs_sockaddr(const struct rdt_verbs_addr *addr, bool with_port,
			     struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (addr->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		in->sin_port = with_port ? htons(addr->port) : 0;
		memcpy(&in->sin_addr, addr->ip, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = with_port ? htons(addr->port) : 0;
	memcpy(&in6->sin6_addr, addr->ip, 16);
	return sizeof(*in6);
}

bool rdt_verbs_from_sockaddr(const struct sockaddr *sa, struct rdt_verbs_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (sa->sa_family == AF_INET) {
		addr->family = 4;
		memcpy(addr->ip, &((const struct sockaddr_in *)sa)->sin_addr, 4);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		addr->family = 6;
		memcpy(addr->ip, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
		return true;
	}
	return false;
}

const char *rdt_verbs_addr_text(const struct rdt_verbs_addr *addr, char *text)
{
	if (!inet_ntop(addr->family == 4 ? AF_INET : AF_INET6, addr->ip, text, RDT_VERBS_ADDR_TEXT))
		snprintf(text, RDT_VERBS_ADDR_TEXT, "?");
	return text;
}

static void describe_self(const struct rdt_verbs *t, struct rdt_verbs_peer *self)
{
	*self = (struct rdt_verbs_peer){
		.generation = t->config.generation,
		.rank = (uint32_t)t->config.rank,
		.link_layer = t->choice.port_attr.link_layer,
		.nonce_hash = rdt_verbs_hash(t->config.nonce, sizeof(t->config.nonce)),
		.n = t->choice.n,
	};
	snprintf(self->device, sizeof(self->device), "%.31s", t->choice.device);
	for (int i = 0; i < self->n; i++)
		self->addr[i] = t->choice.local[i].addr;
}

int rdt_verbs_address(struct rdt_transport *transport, void *blob, size_t *length)
{
	struct rdt_verbs_peer self;

	describe_self(rdt_verbs(transport), &self);
	*length = rdt_verbs_address_pack(&self, blob);
	return 0;
}

/* Everything compared here looks the same from the other side. */
bool rdt_verbs_reachable(struct rdt_transport *transport, const void *blob, size_t length,
			 char *why, size_t size)
{
	char here[RDT_VERBS_ADDR_TEXT], there[RDT_VERBS_ADDR_TEXT];
	const struct rdt_verbs *t = rdt_verbs(transport);
	struct rdt_verbs_peer self, peer;
	int pair[1][2];

	if (!rdt_verbs_address_unpack(blob, length, &peer)) {
		snprintf(why, size, "no verbs address of this version");
		return false;
	}
	describe_self(t, &self);
	if (peer.nonce_hash != self.nonce_hash || peer.generation != self.generation) {
		snprintf(why, size, "the address is of another job or generation");
		return false;
	}
	if (peer.link_layer != self.link_layer) {
		snprintf(why, size, "InfiniBand on one side, Ethernet on the other (%s, %s)",
			 self.device, peer.device);
		return false;
	}
	if (rdt_verbs_pairs(t->choice.local, t->choice.n, peer.addr, peer.n, pair, 1) == 0) {
		snprintf(why, size, "only IPv4 on one side, only IPv6 on the other");
		return false;
	}
	snprintf(why, size, "%s %s, %s %s", self.device,
		 rdt_verbs_addr_text(&self.addr[pair[0][0]], here), peer.device,
		 rdt_verbs_addr_text(&peer.addr[pair[0][1]], there));
	return true;
}
