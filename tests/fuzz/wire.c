/* SPDX-License-Identifier: BSD-3-Clause */
/* A frame's body, from anybody: it is a message, and then the same one when it is written and read
 * again, or it is none. */
#include "fuzz.h"

#include "lib/bootstrap/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned char frame[RDT_FRAME_MAX];
	struct rdt_message m, again;
	uint8_t *body = malloc(size ? size : 1); /* of its own size */
	size_t n;

	FUZZ_CHECK(body);
	memcpy(body, data, size);
	if (rdt_frame_decode(body, (uint32_t)size, &m) &&
	    (m.type != RDT_MSG_HELLO || m.version == RDT_WIRE_VERSION)) {
		n = rdt_frame_encode(&m, frame, sizeof(frame));
		FUZZ_CHECK(n == RDT_FRAME_HEADER + size);
		FUZZ_CHECK(rdt_frame_length(frame) == size);
		FUZZ_CHECK(rdt_frame_decode(frame + RDT_FRAME_HEADER, (uint32_t)size, &again));
		FUZZ_CHECK(again.type == m.type && again.number == m.number &&
			   again.rank == m.rank && again.length == m.length);
		FUZZ_CHECK(!strcmp(again.text, m.text) && !strcmp(again.key, m.key));
	}
	free(body);
	return 0;
}
