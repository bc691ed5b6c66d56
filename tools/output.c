/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passing workers' output on; see output.h. Nothing is lost and nothing blocks: what our reader is
 * too slow for waits in the outlet's queue, and when that is long, the pipes of the workers are not
 * read for a while, so that the workers wait. The loop goes on meanwhile; it carries the rendezvous
 * and the signals as well. When our reader has gone, the pipes are closed, and the workers meet
 * what they would have met without us.
 *
 * A carriage return without a line feed, as progress bars make, ends a line too, and stays a
 * carriage return.
 */
#include "tools/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#define LINE_LIMIT (1u << 20) /* a longer line is passed on in pieces, each a line */
#define QUEUE_HIGH (256u << 10)
#define QUEUE_LOW (64u << 10)

struct outlet {
	int fd;
	bool can_wait; /* a terminal, pipe or socket: writing may block */
	bool broken;   /* nobody reads any more */
	bool paused;   /* the outputs are not read at the moment */
	struct evbuffer *queue;
	struct event *writable;
	struct output *outputs;
	void (*drained)(void *arg);
	void *arg;
	char bytes[64u << 10]; /* what one read has brought */
};

struct output {
	struct outlet *to;
	struct output *next;
	struct event *readable;
	struct evbuffer *line; /* the beginning of a line whose end has not come */
	int from;	       /* -1: closed */
	bool raw;	       /* no lines, just bytes */
	bool returned;	       /* the last byte was a carriage return */
	size_t prefix_length;
	char prefix[32];
};

/* ---- outlets --------------------------------------------------------------------------------- */

static void close_pipe(struct output *o)
{
	if (o->readable)
		event_free(o->readable);
	o->readable = NULL;
	if (o->from >= 0)
		close(o->from);
	o->from = -1;
}

static void give_up(struct outlet *outlet)
{
	outlet->broken = true;
	evbuffer_drain(outlet->queue, evbuffer_get_length(outlet->queue));
	for (struct output *o = outlet->outputs; o; o = o->next)
		close_pipe(o);
}

static void pause_outputs(struct outlet *outlet, bool pause)
{
	if (outlet->paused == pause)
		return;
	outlet->paused = pause;
	for (struct output *o = outlet->outputs; o; o = o->next) {
		if (o->readable && pause)
			event_del(o->readable);
		else if (o->readable)
			event_add(o->readable, NULL);
	}
}

/* How much of the queue to write at once: not more than a pipe with room takes without blocking,
 * and whole lines if there are any, so that those of stdout and stderr do not mix. */
static size_t next_piece(struct outlet *outlet, const char **piece)
{
	size_t n = evbuffer_get_length(outlet->queue);
	const char *end;

	if (n > PIPE_BUF)
		n = PIPE_BUF;
	*piece = (const char *)evbuffer_pullup(outlet->queue, (ev_ssize_t)n);
	if (!*piece)
		return 0;
	end = memrchr(*piece, '\n', n);
	return end ? (size_t)(end - *piece) + 1 : n;
}

/* Writes as much as is taken without waiting. */
static void push(struct outlet *outlet)
{
	while (!outlet->broken && evbuffer_get_length(outlet->queue) > 0) {
		struct pollfd room = { .fd = outlet->fd, .events = POLLOUT };
		const char *piece;
		size_t length;
		ssize_t n;

		if (outlet->can_wait && poll(&room, 1, 0) == 0)
			break;
		length = next_piece(outlet, &piece);
		n = write(outlet->fd, piece, length);
		if (n > 0)
			evbuffer_drain(outlet->queue, (size_t)n);
		else if (n < 0 && errno == EAGAIN)
			break;
		else if (n < 0 && errno != EINTR)
			give_up(outlet);
	}
	if (evbuffer_get_length(outlet->queue) > QUEUE_HIGH)
		pause_outputs(outlet, true);
	else if (evbuffer_get_length(outlet->queue) < QUEUE_LOW)
		pause_outputs(outlet, false);
	if (!outlet_empty(outlet))
		event_add(outlet->writable, NULL);
	else
		outlet->drained(outlet->arg);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	push(arg);
}

/* Files and /dev/null are always ready, and an event loop does not take them. */
static bool can_wait_for(int fd)
{
	struct epoll_event event = { .events = EPOLLOUT };
	int poller = epoll_create1(EPOLL_CLOEXEC);
	bool can = poller >= 0 && epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0;

	if (poller >= 0)
		close(poller);
	return can;
}

struct outlet *outlet_new(struct event_base *base, int fd, void (*drained)(void *arg), void *arg)
{
	struct outlet *outlet = calloc(1, sizeof(*outlet));

	if (!outlet)
		return NULL;
	outlet->fd = fd;
	outlet->can_wait = can_wait_for(fd);
	outlet->drained = drained;
	outlet->arg = arg;
	outlet->queue = evbuffer_new();
	outlet->writable = event_new(base, fd, EV_WRITE, on_writable, outlet);
	if (!outlet->queue || !outlet->writable) {
		outlet_free(outlet);
		return NULL;
	}
	return outlet;
}

void outlet_write(struct outlet *outlet, const char *text, size_t length)
{
	if (outlet->broken)
		return;
	evbuffer_add(outlet->queue, text, length);
	push(outlet);
}

bool outlet_empty(const struct outlet *outlet)
{
	return outlet->broken || evbuffer_get_length(outlet->queue) == 0;
}

void outlet_free(struct outlet *outlet)
{
	if (!outlet)
		return;
	if (outlet->writable)
		event_free(outlet->writable);
	if (outlet->queue)
		evbuffer_free(outlet->queue);
	free(outlet);
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* Passes on what has come of the line, then `rest`, which brings its end. */
static void pass_line(struct output *o, const char *rest, size_t length)
{
	evbuffer_add(o->to->queue, o->prefix, o->prefix_length);
	evbuffer_add_buffer(o->to->queue, o->line);
	evbuffer_add(o->to->queue, rest, length);
}

static void take(struct output *o, const char *bytes, size_t n)
{
	const char *end = bytes + n;

	if (o->raw) {
		evbuffer_add(o->to->queue, bytes, n);
		return;
	}
	while (bytes < end) {
		const char *stop = bytes;

		if (o->returned && *bytes == '\n') {
			/* the line itself is out already */
			evbuffer_add(o->to->queue, bytes++, 1);
			o->returned = false;
			continue;
		}
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		if (stop < end) {
			o->returned = *stop == '\r';
			stop++;
			pass_line(o, bytes, (size_t)(stop - bytes));
		} else {
			o->returned = false;
			evbuffer_add(o->line, bytes, (size_t)(stop - bytes));
			if (evbuffer_get_length(o->line) >= LINE_LIMIT)
				pass_line(o, "\n", 1);
		}
		bytes = stop;
	}
}

/* Reads once; the number of bytes, or 0 when nothing is there, now or ever. */
static size_t read_some(struct output *o)
{
	struct outlet *outlet = o->to;
	ssize_t n;

	do
		n = read(o->from, outlet->bytes, sizeof(outlet->bytes));
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		take(o, outlet->bytes, (size_t)n);
		return (size_t)n;
	}
	if (n == 0 || errno != EAGAIN)
		close_pipe(o);
	return 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct output *o = arg;

	(void)fd;
	(void)what;
	if (read_some(o))
		push(o->to);
}

struct output *output_new(struct event_base *base, int from, struct outlet *to, const char *prefix)
{
	struct output *o = calloc(1, sizeof(*o));

	if (!o) {
		close(from);
		return NULL;
	}
	o->from = from;
	o->to = to;
	o->raw = !prefix;
	if (prefix) {
		strncpy(o->prefix, prefix, sizeof(o->prefix) - 1);
		o->prefix_length = strlen(o->prefix);
	}
	o->next = to->outputs;
	to->outputs = o;
	fcntl(from, F_SETFL, fcntl(from, F_GETFL) | O_NONBLOCK);
	o->line = evbuffer_new();
	o->readable = event_new(base, from, EV_READ | EV_PERSIST, on_readable, o);
	if (!o->line || !o->readable || (!to->paused && event_add(o->readable, NULL))) {
		output_free(o);
		return NULL;
	}
	if (to->broken)
		close_pipe(o);
	return o;
}

void output_end(struct output *o)
{
	int waiting = 0;
	size_t left;

	if (!o)
		return;
	/* Not until the end of the file: something that the worker started and let go of may hold
	 * the pipe for ever. */
	if (o->from >= 0 && ioctl(o->from, FIONREAD, &waiting) == 0) {
		for (left = (size_t)waiting; left > 0 && o->from >= 0;) {
			size_t n = read_some(o);

			if (n == 0)
				break;
			left -= n < left ? n : left;
		}
	}
	if (evbuffer_get_length(o->line) > 0)
		pass_line(o, "\n", 1);
	close_pipe(o);
	push(o->to);
}

void output_free(struct output *o)
{
	if (!o)
		return;
	for (struct output **at = &o->to->outputs; *at; at = &(*at)->next)
		if (*at == o) {
			*at = o->next;
			break;
		}
	close_pipe(o);
	if (o->line)
		evbuffer_free(o->line);
	free(o);
}
