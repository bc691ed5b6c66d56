/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Encoding and decoding of frames (wire.h). One table says which fields a message has, and both
 * directions read it, so that they cannot disagree. Nothing here trusts a length it has read.
 */
#include "lib/bootstrap/wire.h"

#include <string.h>

#define HELLO_MAGIC 0x42544452u /* "RDTB" */

/*
 * One letter a field: v version (with the magic before it), n number, r rank, R rank_b, w world,
 * s status, k kind, f flags, N nonce, j job, K key, t text, g signature, G signature_b, V value.
 */
static const char *const fields[RDT_MSG_TYPES] = {
	[RDT_MSG_HELLO] = "vrwj",   [RDT_MSG_WELCOME] = "N",   [RDT_MSG_REFUSED] = "st",
	[RDT_MSG_PUT] = "nKV",	    [RDT_MSG_STORED] = "nst",  [RDT_MSG_GET] = "nrKk",
	[RDT_MSG_VALUE] = "nstV",   [RDT_MSG_FENCE] = "nfg",   [RDT_MSG_FENCED] = "nstfkrgRG",
	[RDT_MSG_WHO] = "n",	    [RDT_MSG_MISSING] = "nt",  [RDT_MSG_ABORT] = "stV",
	[RDT_MSG_EVENT] = "krt",    [RDT_MSG_BYE] = "",	       [RDT_MSG_FORGET] = "K",
	[RDT_MSG_VERDICT] = "srtV", [RDT_MSG_REGROUP] = "nkf", [RDT_MSG_GROUP] = "nstkrwj",
	[RDT_MSG_PULSE] = "",
};

struct writer {
	unsigned char *at, *end;
	bool full;
};

struct reader {
	const unsigned char *at, *end;
	bool bad;
};

static void put_uint(struct writer *w, uint64_t value, unsigned bytes)
{
	if ((size_t)(w->end - w->at) < bytes) {
		w->full = true;
		return;
	}
	for (unsigned i = 0; i < bytes; i++)
		*w->at++ = (unsigned char)(value >> (8 * i));
}

static uint64_t get_uint(struct reader *r, unsigned bytes)
{
	uint64_t value = 0;

	if ((size_t)(r->end - r->at) < bytes) {
		r->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)*r->at++ << (8 * i);
	return value;
}

static void put_bytes(struct writer *w, const void *bytes, size_t length, unsigned length_bytes)
{
	put_uint(w, length, length_bytes);
	if (w->full || (size_t)(w->end - w->at) < length) {
		w->full = true;
		return;
	}
	if (length)
		memcpy(w->at, bytes, length);
	w->at += length;
}

/* A string goes without its terminator; `room` is the receiver's, which needs one. */
static void put_string(struct writer *w, const char *string, size_t room)
{
	size_t length = strnlen(string, room);

	if (length >= room)
		w->full = true;
	else
		put_bytes(w, string, length, 2);
}

static void get_string(struct reader *r, char *string, size_t room)
{
	size_t length = get_uint(r, 2);

	if (r->bad || length >= room || (size_t)(r->end - r->at) < length ||
	    memchr(r->at, 0, length)) {
		r->bad = true;
		return;
	}
	memcpy(string, r->at, length);
	string[length] = 0;
	r->at += length;
}

static void get_value(struct reader *r, struct rdt_message *m)
{
	uint32_t length = (uint32_t)get_uint(r, 4);

	if (r->bad || length > RDT_BLOB_MAX || (size_t)(r->end - r->at) < length) {
		r->bad = true;
		return;
	}
	m->value = r->at;
	m->length = length;
	r->at += length;
}

size_t rdt_frame_encode(const struct rdt_message *m, unsigned char *out, size_t capacity)
{
	struct writer w = { .at = out, .end = out + capacity };
	size_t body;

	put_uint(&w, 0, RDT_FRAME_HEADER);
	put_uint(&w, m->type, 1);
	for (const char *f = fields[m->type]; *f && !w.full; f++) {
		switch (*f) {
		case 'v':
			put_uint(&w, HELLO_MAGIC, 4);
			put_uint(&w, m->version, 4);
			break;
		case 'n': put_uint(&w, m->number, 4); break;
		case 'r': put_uint(&w, m->rank, 4); break;
		case 'R': put_uint(&w, m->rank_b, 4); break;
		case 'w': put_uint(&w, m->world, 4); break;
		case 's': put_uint(&w, (uint32_t)m->status, 4); break;
		case 'k': put_uint(&w, m->kind, 1); break;
		case 'f': put_uint(&w, m->flags, 8); break;
		case 'N': put_bytes(&w, m->nonce, sizeof(m->nonce), 1); break;
		case 'j': put_string(&w, m->job, sizeof(m->job)); break;
		case 'K': put_string(&w, m->key, sizeof(m->key)); break;
		case 't': put_string(&w, m->text, sizeof(m->text)); break;
		case 'g': put_string(&w, m->signature, sizeof(m->signature)); break;
		case 'G': put_string(&w, m->signature_b, sizeof(m->signature_b)); break;
		case 'V':
			if (m->length > RDT_BLOB_MAX)
				w.full = true;
			else
				put_bytes(&w, m->value, m->length, 4);
			break;
		}
	}
	if (w.full)
		return 0;
	body = (size_t)(w.at - out) - RDT_FRAME_HEADER;
	w.at = out;
	put_uint(&w, body, RDT_FRAME_HEADER);
	return RDT_FRAME_HEADER + body;
}

uint32_t rdt_frame_length(const unsigned char header[RDT_FRAME_HEADER])
{
	struct reader r = { .at = header, .end = header + RDT_FRAME_HEADER };

	return (uint32_t)get_uint(&r, RDT_FRAME_HEADER);
}

bool rdt_frame_decode(const unsigned char *body, size_t length, struct rdt_message *m)
{
	struct reader r = { .at = body, .end = body + length };
	uint64_t type = get_uint(&r, 1);

	memset(m, 0, sizeof(*m));
	if (r.bad || type >= RDT_MSG_TYPES || !fields[type])
		return false;
	m->type = (enum rdt_message_type)type;
	for (const char *f = fields[type]; *f && !r.bad; f++) {
		switch (*f) {
		case 'v':
			if (get_uint(&r, 4) != HELLO_MAGIC)
				return false;
			m->version = (uint32_t)get_uint(&r, 4);
			if (!r.bad && m->version != RDT_WIRE_VERSION)
				return true;
			break;
		case 'n': m->number = (uint32_t)get_uint(&r, 4); break;
		case 'r': m->rank = (uint32_t)get_uint(&r, 4); break;
		case 'R': m->rank_b = (uint32_t)get_uint(&r, 4); break;
		case 'w': m->world = (uint32_t)get_uint(&r, 4); break;
		case 's': m->status = (int32_t)(uint32_t)get_uint(&r, 4); break;
		case 'k': m->kind = (uint8_t)get_uint(&r, 1); break;
		case 'f': m->flags = get_uint(&r, 8); break;
		case 'N':
			if (get_uint(&r, 1) != sizeof(m->nonce) ||
			    (size_t)(r.end - r.at) < sizeof(m->nonce))
				return false;
			memcpy(m->nonce, r.at, sizeof(m->nonce));
			r.at += sizeof(m->nonce);
			break;
		case 'j': get_string(&r, m->job, sizeof(m->job)); break;
		case 'K': get_string(&r, m->key, sizeof(m->key)); break;
		case 't': get_string(&r, m->text, sizeof(m->text)); break;
		case 'g': get_string(&r, m->signature, sizeof(m->signature)); break;
		case 'G': get_string(&r, m->signature_b, sizeof(m->signature_b)); break;
		case 'V': get_value(&r, m); break;
		}
	}
	return !r.bad && r.at == r.end;
}
