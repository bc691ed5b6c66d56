/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is the host at the other end of a TCP connection still there? Both ends ask: the service for its
 * members, a member that waits for the service. It is the kernel that answers, so a process that
 * computes for minutes, or is stopped, is not silent.
 */
#ifndef RDT_PULSE_H
#define RDT_PULSE_H

#include <stdbool.h>
#include <stdint.h>

/* How often to look, at least, where one looks at all. */
#define RDT_PULSE_MS 100

enum rdt_pulse_found {
	RDT_PULSE_WELL,
	RDT_PULSE_ASK,	  /* send something, whatever it is: TCP wants its acknowledgement */
	RDT_PULSE_SILENT, /* for silent_ms: give it up */
};

/* Of one connection; all zeros at first. */
struct rdt_pulse {
	int64_t look_at; /* when it is time for the next look (rdt_now() time) */
	uint32_t silent_ms;
	uint32_t limit_ms; /* RDTRAIN_KEEPALIVE as it was at the first look */
	unsigned looks; /* in a row at which it was silent for too long */
	unsigned late;	/* and had not answered what was sent more than once */
	bool asked;
};

/*
 * Looks, if it is time to. Silent is a host that has said nothing for RDTRAIN_KEEPALIVE seconds,
 * though it was asked: by TCP's keep-alive and then by something that TCP has sent two or three
 * times. So a lost packet ends nothing. With the default it takes about a second and a half. Not seen
 * is the end of a host whose process had stopped reading before, with its window full: then TCP asks
 * ever more seldom.
 */
enum rdt_pulse_found rdt_pulse_look(struct rdt_pulse *pulse, int fd, int64_t now);

#endif
