/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The campaign of the other host: both go through the same runs, each with its own ranks, and tell
 * each other what they saw, over a plain connection that the faults do not touch (or that survives
 * them, where the fault is the link).
 */
#include "campaign.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"

#define PORT 4710
#define MEET_S 60.0
#define ANSWER_S 120.0
#define PINGS 20

static int connection = -1;

static int listen_once(const struct sockaddr_in *at, int64_t deadline)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, peer = -1;
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 && listen(fd, 1) == 0 &&
	    poll(&ready, 1, rdt_left_ms(deadline)) > 0)
		peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(fd);
	return peer;
}

static int connect_by(const struct sockaddr_in *to, int64_t deadline)
{
	while (rdt_now() < deadline) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0)
			return fd;
		close(fd);
		usleep(50000);
	}
	return -1;
}

bool campaign_hosts_meet(const struct campaign_options *options)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int64_t deadline = rdt_deadline(MEET_S);
	int one = 1;

	if (options->hosts == 1)
		return true;
	if (inet_pton(AF_INET, options->address, &address.sin_addr) != 1) {
		fprintf(stderr, "%s is no address of host 0\n", options->address);
		return false;
	}
	connection =
		options->host ? connect_by(&address, deadline) : listen_once(&address, deadline);
	if (connection < 0) {
		perror("the campaign of the other host cannot be met");
		return false;
	}
	setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return true;
}

static bool receive(void *to, size_t size, int64_t deadline)
{
	for (size_t have = 0; have < size;) {
		struct pollfd ready = { .fd = connection, .events = POLLIN };
		ssize_t n = 0;

		if (poll(&ready, 1, rdt_left_ms(deadline)) > 0)
			n = recv(connection, (char *)to + have, size - have, 0);
		if (n <= 0) {
			fprintf(stderr, "the campaign of the other host has gone silent\n");
			return false;
		}
		have += (size_t)n;
	}
	return true;
}

/* What is sent is small: it fits into the socket's buffer. */
static bool transmit(const void *from, size_t size)
{
	return send(connection, from, size, MSG_NOSIGNAL) == (ssize_t)size;
}

bool campaign_hosts_exchange(const void *mine, void *theirs, size_t size)
{
	if (connection < 0) {
		memcpy(theirs, mine, size);
		return true;
	}
	return transmit(mine, size) && receive(theirs, size, rdt_deadline(ANSWER_S));
}

/* Host 1 asks, host 0 answers with its time; half of the fastest answer's way is the error. */
static bool ask_clock(int64_t *ahead)
{
	int64_t best = INT64_MAX;

	for (int i = 0; i < PINGS; i++) {
		int64_t sent = rdt_now(), theirs, now;

		if (!transmit(&sent, sizeof(sent)) ||
		    !receive(&theirs, sizeof(theirs), rdt_deadline(ANSWER_S)))
			return false;
		now = rdt_now();
		if (now - sent < best) {
			best = now - sent;
			*ahead = theirs - (sent + now) / 2;
		}
	}
	return transmit(ahead, sizeof(*ahead));
}

static bool answer_clock(int64_t *ahead)
{
	for (int i = 0; i < PINGS; i++) {
		int64_t theirs, now;

		if (!receive(&theirs, sizeof(theirs), rdt_deadline(ANSWER_S)))
			return false;
		now = rdt_now();
		if (!transmit(&now, sizeof(now)))
			return false;
	}
	if (!receive(ahead, sizeof(*ahead), rdt_deadline(ANSWER_S)))
		return false;
	*ahead = -*ahead;
	return true;
}

bool campaign_hosts_clock(const struct campaign_options *options, int64_t *ahead)
{
	*ahead = 0;
	if (connection < 0)
		return true;
	return options->host ? ask_clock(ahead) : answer_clock(ahead);
}
