/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words between a member and the rendezvous service. A frame is a length (32 bits) and a body;
 * a body is a type and its fields, integers little-endian, strings and values with their length
 * before them. Pure functions over bytes: no I/O, no allocation.
 *
 *	member -> service	service -> member
 *	HELLO			WELCOME or REFUSED	the first words of each
 *	PUT			STORED
 *	FORGET
 *	GET			VALUE			when the value is there, or at once
 *	FENCE			FENCED			when all have come, or none can come
 *	WHO			MISSING			who has not come to a fence
 *	REGROUP			GROUP			when a next generation is agreed on
 *	ABORT, BYE		VERDICT			when the job has failed
 *				EVENT			at any time after WELCOME
 *	PULSE			PULSE			to who has been silent; TCP answers
 *
 * A request carries a number and its answer repeats it, so that an answer that comes after the
 * asker's deadline is known for what it is. A fence's number is its place in its rank's row of
 * fences, from 1.
 */
#ifndef RDT_WIRE_H
#define RDT_WIRE_H

#include "lib/bootstrap/bootstrap.h"

#define RDT_WIRE_VERSION 5
#define RDT_FRAME_HEADER 4
#define RDT_FRAME_BODY_MAX (RDT_BLOB_MAX + 1024)
#define RDT_FRAME_MAX (RDT_FRAME_HEADER + RDT_FRAME_BODY_MAX)
#define RDT_HELLO_BODY_MAX 128 /* all that a stranger may send */
#define RDT_TEXT_MAX 512

enum rdt_message_type {
	RDT_MSG_HELLO = 1, /* version, rank, world (0: wants to be admitted later), job */
	RDT_MSG_WELCOME,   /* nonce */
	RDT_MSG_REFUSED,   /* status, text */
	RDT_MSG_PUT,	   /* number, key, value */
	RDT_MSG_STORED,	   /* number, status, text */
	RDT_MSG_GET,	   /* number, rank, key, kind: 1 to be told at once when it is not there */
	RDT_MSG_VALUE,	   /* number, status (RDT_AGAIN: not there yet), text, value */
	RDT_MSG_FENCE,	   /* number, flags, signature */
	RDT_MSG_FENCED,	   /* number, status, text, flags, kind: 1 when the signatures are equal,
			    * rank, signature, rank_b, signature_b: two that are not */
	RDT_MSG_WHO,	   /* number */
	RDT_MSG_MISSING,   /* number, text: "rank 2", "ranks 2, 5-9" */
	RDT_MSG_ABORT,	   /* status, text, value: the ranks it holds for lost, one bit each */
	RDT_MSG_EVENT,	   /* kind: enum rdt_bootstrap_event_kind, rank, text */
	RDT_MSG_BYE,
	RDT_MSG_FORGET,	 /* key */
	RDT_MSG_VERDICT, /* status, rank (who said so; all ones: the service), text, value: the lost
			  * ranks */
	RDT_MSG_REGROUP, /* number, kind: enum rdt_regroup_kind bits, flags: milliseconds that it
			  * has */
	RDT_MSG_GROUP,	 /* number, status, text, kind: enum rdt_generation_kind bits, rank, world,
			  * job:   the generation to join, and as whom */
	RDT_MSG_PULSE,	 /* nothing: its acknowledgement by TCP is what is wanted */
	RDT_MSG_TYPES,
};

/* Kinds of EVENT beside those of enum rdt_bootstrap_event_kind, for the client alone. */
enum {
	RDT_EVENT_BROKEN = 100, /* one of the generation that was agreed on last is gone */
	RDT_EVENT_WAITING,	/* rank: how many wait to be admitted */
};

/* Every field that any message has; a message uses those named at its type. */
struct rdt_message {
	enum rdt_message_type type;
	uint32_t version, number, rank, rank_b, world;
	int32_t status;
	uint8_t kind;
	uint64_t flags;
	unsigned char nonce[RDT_JOB_NONCE_BYTES];
	char job[64], key[RDT_KEY_MAX], text[RDT_TEXT_MAX];
	char signature[RDT_SIGNATURE_MAX], signature_b[RDT_SIGNATURE_MAX];
	const void *value; /* decoded: points into the body */
	uint32_t length;
};

/* Writes the frame, header included, and returns its bytes; 0 when it has no room or a field is
 * longer than the receiver would take. */
size_t rdt_frame_encode(const struct rdt_message *message, unsigned char *out, size_t capacity);

/* Bytes of the body that follows this header. The caller compares it with its limit. */
uint32_t rdt_frame_length(const unsigned char header[RDT_FRAME_HEADER]);

/*
 * Reads a body. False when it is not exactly one message. A HELLO of another version is true, with
 * `version` alone filled in: its other fields may have changed.
 */
bool rdt_frame_decode(const unsigned char *body, size_t length, struct rdt_message *message);

#endif
