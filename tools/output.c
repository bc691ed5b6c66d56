/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passing workers' output on; see output.h. A line is written by one write(2) as far as possible,
 * so that lines of several workers do not mix. Writing may block, and that is meant: a reader that
 * is slow slows the workers down, and nothing is lost. A carriage return without a line feed, as
 * progress bars make, ends a line too, and stays a carriage return.
 */
#include "tools/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#define LINE_MAX_BYTES 65536 /* a longer line is passed on in pieces */
#define READ_BYTES 65536

struct output {
	struct event *readable;
	int from, to;
	size_t prefix_length;
	bool returned;			/* the last byte was a carriage return */
	char line[LINE_MAX_BYTES + 64]; /* prefix, then what has come of the line */
	size_t have;			/* beyond the prefix */
};

static void write_all(int to, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = write(to, bytes, n);

		if (done > 0) {
			bytes += done;
			n -= (size_t)done;
		} else if (done < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = to, .events = POLLOUT };

			poll(&room, 1, -1);
		} else if (done < 0 && errno != EINTR) {
			return; /* nobody reads any more */
		}
	}
}

/* Writes the line that has come so far, ended by `end` unless that is 0. */
static void flush_line(struct output *o, char end)
{
	size_t n = o->prefix_length + o->have;

	if (end)
		o->line[n++] = end;
	write_all(o->to, o->line, n);
	o->have = 0;
}

static void take(struct output *o, const char *bytes, size_t n)
{
	if (!o->prefix_length) {
		write_all(o->to, bytes, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		bool after_return = o->returned;

		o->returned = bytes[i] == '\r';
		if (bytes[i] == '\n' && after_return) {
			write_all(o->to, "\n", 1); /* the line's prefix is out already */
			continue;
		}
		if (bytes[i] == '\n' || bytes[i] == '\r') {
			flush_line(o, bytes[i]);
			continue;
		}
		o->line[o->prefix_length + o->have++] = bytes[i];
		if (o->have == LINE_MAX_BYTES)
			flush_line(o, '\n');
	}
}

/* One read; false at the end of the pipe, or when there is nothing now. */
static bool read_some(struct output *o)
{
	static char bytes[READ_BYTES];
	ssize_t n = read(o->from, bytes, sizeof(bytes));

	if (n > 0) {
		take(o, bytes, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return errno == EINTR;
	event_del(o->readable);
	return false;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	read_some(arg);
}

struct output *output_new(struct event_base *base, int from, int to, const char *prefix)
{
	struct output *o = calloc(1, sizeof(*o));

	if (!o) {
		close(from);
		return NULL;
	}
	o->from = from;
	o->to = to;
	o->prefix_length = strlen(prefix);
	memcpy(o->line, prefix, o->prefix_length);
	fcntl(from, F_SETFL, fcntl(from, F_GETFL) | O_NONBLOCK);
	o->readable = event_new(base, from, EV_READ | EV_PERSIST, on_readable, o);
	if (!o->readable || event_add(o->readable, NULL)) {
		output_free(o);
		return NULL;
	}
	return o;
}

void output_end(struct output *o)
{
	while (o && read_some(o))
		;
	if (o && o->have)
		flush_line(o, '\n');
}

void output_free(struct output *o)
{
	if (!o)
		return;
	if (o->readable)
		event_free(o->readable);
	close(o->from);
	free(o);
}
