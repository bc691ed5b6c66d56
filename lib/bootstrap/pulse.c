/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Silent hosts; see pulse.h. Keep-alive alone asks too seldom: of its questions Linux answers one
 * in half a second (tcp_invalid_ratelimit), so that one lost answer would be half a second of
 * silence. What carries data is answered always, and sent again after 0.2, 0.6, 1.4 s.
 */
#include "lib/bootstrap/pulse.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* Linux's own: what netinet/tcp.h calls struct tcp_info lacks the newer members. */
#include <linux/tcp.h>

#include "lib/bootstrap/address.h"

#define MS 1000000ll
/* Looks that are further apart than this are not in a row: whoever looks was away. */
#define AWAY_NS (1000 * MS)
/* Times that TCP has sent again what waits for an answer, and looks since. When the question was
 * ours, keep-alive's has gone unanswered before. */
#define RESENDS 2
#define RESENDS_ASKED 1
#define LATE 2
/* Looks at which something had not even left this host, whose own link must be down. */
#define NOT_SENT 4

static void begin(struct rdt_pulse *pulse)
{
	pulse->looks = pulse->late = 0;
	pulse->asked = false;
}

static bool has_not_answered(struct rdt_pulse *pulse, const struct tcp_info *info)
{
	/* Its process does not read, and there is no room for more: TCP asks ever more seldom. */
	bool full = info->tcpi_notsent_bytes > info->tcpi_snd_wnd;
	unsigned resends = pulse->asked ? RESENDS_ASKED : RESENDS;

	if (info->tcpi_unacked ? info->tcpi_retransmits < resends
			       : full || !info->tcpi_notsent_bytes)
		pulse->late = 0;
	else
		pulse->late++;
	return pulse->late > (info->tcpi_unacked ? LATE : NOT_SENT);
}

enum rdt_pulse_found rdt_pulse_look(struct rdt_pulse *pulse, int fd, int64_t now)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (now < pulse->look_at)
		return RDT_PULSE_WELL;
	if (!pulse->limit_ms)
		pulse->limit_ms = (uint32_t)rdt_keepalive() * 1000;
	if (now - pulse->look_at > AWAY_NS)
		begin(pulse);
	pulse->look_at = now + RDT_PULSE_MS * MS;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		return RDT_PULSE_WELL;
	pulse->silent_ms = info.tcpi_last_ack_recv < info.tcpi_last_data_recv
				   ? info.tcpi_last_ack_recv
				   : info.tcpi_last_data_recv;
	if (pulse->silent_ms < pulse->limit_ms) {
		begin(pulse);
		if (pulse->limit_ms - pulse->silent_ms > RDT_PULSE_MS)
			pulse->look_at = now + (pulse->limit_ms - pulse->silent_ms) * MS;
		return RDT_PULSE_WELL;
	}
	if (has_not_answered(pulse, &info))
		return RDT_PULSE_SILENT;
	/* By the second look keep-alive's question of just now has had time for an answer. */
	if (pulse->looks++ == 0 || info.tcpi_unacked || info.tcpi_notsent_bytes || pulse->asked)
		return RDT_PULSE_WELL;
	pulse->asked = true;
	return RDT_PULSE_ASK;
}
