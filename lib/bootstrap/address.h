/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses as people write them, and what every socket of the rendezvous is set to. */
#ifndef RDT_ADDRESS_H
#define RDT_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

struct rdt_address {
	char host[256]; /* without brackets */
	char port[8];
	int port_number;
};

/* Reads HOST:PORT or [v6]:PORT, port 0..65535. False when it is neither. */
bool rdt_address_parse(const char *text, struct rdt_address *address);

/* "127.0.0.1:4711", "[::1]:4711"; "?" when it is no IP address. */
void rdt_address_text(const struct sockaddr *sa, socklen_t length, char *text, size_t room);

/* The IP address, that of IPv4 as IPv6 writes it. */
struct in6_addr rdt_address_ip(const struct sockaddr *sa);

/* What one host may have any number of addresses in: the first 64 bits of IPv6, all of IPv4. */
struct in6_addr rdt_address_network(const struct sockaddr *sa);

/* No delay for small frames, and keep-alive, which asks a silent host. */
void rdt_socket_tune(int fd);

/* Seconds of silence after which the host at the other end is given up (RDTRAIN_KEEPALIVE;
 * pulse.h), its default and the most that it may be. */
int rdt_keepalive(void);
#define RDT_KEEPALIVE 1
#define RDT_KEEPALIVE_MAX 3600

#endif
