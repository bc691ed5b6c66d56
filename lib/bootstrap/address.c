/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses as text, and socket options (address.h). Opens and connects nothing. */
#include "lib/bootstrap/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Before TCP itself gives up: more than pulse.c needs, who decides. */
#define QUESTIONS 20

bool rdt_address_parse(const char *text, struct rdt_address *address)
{
	const char *colon = strrchr(text, ':');
	const char *host = text;
	size_t length;
	long port;

	if (!colon || colon == text)
		return false;
	length = (size_t)(colon - text);
	if (host[0] == '[') {
		if (length < 3 || host[length - 1] != ']')
			return false;
		host++;
		length -= 2;
	} else if (memchr(host, ':', length)) {
		return false; /* v6 without brackets: which colon is the port's? */
	}
	if (length >= sizeof(address->host) || strcspn(text, " \t\r\n") != strlen(text))
		return false;
	if (!colon[1] || strlen(colon + 1) > 5 ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	port = strtol(colon + 1, NULL, 10);
	if (port > 65535)
		return false;
	memcpy(address->host, host, length);
	address->host[length] = 0;
	address->port_number = (int)port;
	snprintf(address->port, sizeof(address->port), "%d", (int)port);
	return true;
}

void rdt_address_text(const struct sockaddr *sa, socklen_t length, char *text, size_t room)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getnameinfo(sa, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(text, room, "?");
	else
		snprintf(text, room, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

struct in6_addr rdt_address_ip(const struct sockaddr *sa)
{
	struct in6_addr ip = { 0 };

	if (sa->sa_family == AF_INET6) {
		ip = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	} else {
		const struct sockaddr_in *in = (const void *)sa;

		ip.s6_addr[10] = ip.s6_addr[11] = 0xff;
		memcpy(&ip.s6_addr[12], &in->sin_addr, 4);
	}
	return ip;
}

struct in6_addr rdt_address_network(const struct sockaddr *sa)
{
	struct in6_addr ip = rdt_address_ip(sa);

	if (!IN6_IS_ADDR_V4MAPPED(&ip))
		memset(&ip.s6_addr[8], 0, 8);
	return ip;
}

static void set(int fd, int level, int option, int value)
{
	/* An option the kernel lacks costs speed or a later notice, not correctness. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

int rdt_keepalive(void)
{
	const char *text = getenv("RDTRAIN_KEEPALIVE"); /* checked by launcher.c */
	int seconds = text ? atoi(text) : 0;

	return seconds < 1 || seconds > RDT_KEEPALIVE_MAX ? RDT_KEEPALIVE : seconds;
}

/* Whole seconds are what TCP's keep-alive knows. */
static int idle_s(void)
{
	int seconds = rdt_keepalive();

	return seconds > 1 ? seconds / 2 : 1;
}

void rdt_socket_tune(int fd)
{
	int idle = idle_s();

	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* Asked when half of the time was silent, and then again and again: a question or an answer
	 * may be lost. A process that computes for minutes is not silent: its kernel answers. */
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, idle > 8 ? idle / 8 : 1);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, QUESTIONS);
}
