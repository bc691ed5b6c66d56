/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes wrong on verbs, in words: work completions, refused connections, resources that the
 * device does not give. Only text and status here; who ends what is decided by the callers.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/memlock.h"
#include "verbs.h"

#define REFUSAL_MAGIC 0x52445458u /* "RDTX" */

/* InfiniBand Architecture Specification, volume 1, 12.6.7.2 (REJ reasons). */
enum {
	REJ_NO_QP = 1,
	REJ_TIMEOUT = 4,
	REJ_INVALID_SERVICE = 8,
	REJ_STALE = 10,
	REJ_PORT_REJECT = 12,
	REJ_CONSUMER = 28,
};

static const struct {
	const char *name;
	int class;
	const char *meaning;
} completions[] = {
	[IBV_WC_SUCCESS] = { "IBV_WC_SUCCESS", 0, "nothing is wrong" },
	[IBV_WC_LOC_LEN_ERR] = { "IBV_WC_LOC_LEN_ERR", RDT_ERR_SYSTEM,
				 "a message is longer than the port's max_msg_sz; compare "
				 "`ibv_devinfo -v`" },
	[IBV_WC_LOC_QP_OP_ERR] = { "IBV_WC_LOC_QP_OP_ERR", RDT_ERR_SYSTEM,
				   "the device found the queue pair inconsistent: a driver or "
				   "firmware fault; look at dmesg" },
	[IBV_WC_LOC_PROT_ERR] = { "IBV_WC_LOC_PROT_ERR", RDT_ERR_SYSTEM,
				  "the source is not registered memory any more: was the buffer "
				  "unmapped or deregistered while a plan still used it?" },
	[IBV_WC_WR_FLUSH_ERR] = { "IBV_WC_WR_FLUSH_ERR", RDT_ERR_PEER_LOST,
				  "the queue pair was closed after an earlier error" },
	[IBV_WC_BAD_RESP_ERR] = { "IBV_WC_BAD_RESP_ERR", RDT_ERR_SYSTEM,
				  "the peer's answer makes no sense to the device: a driver or "
				  "firmware fault at either end" },
	[IBV_WC_LOC_ACCESS_ERR] = { "IBV_WC_LOC_ACCESS_ERR", RDT_ERR_SYSTEM,
				    "a write from the peer hit memory that it may not write" },
	[IBV_WC_REM_INV_REQ_ERR] = { "IBV_WC_REM_INV_REQ_ERR", RDT_ERR_SYSTEM,
				     "the peer's device calls the request invalid: different "
				     "library versions, or a driver fault" },
	[IBV_WC_REM_ACCESS_ERR] = { "IBV_WC_REM_ACCESS_ERR", RDT_ERR_SYSTEM,
				    "the target is not registered at the peer any more: was its "
				    "buffer freed or deregistered while a plan still used it?" },
	[IBV_WC_REM_OP_ERR] = { "IBV_WC_REM_OP_ERR", RDT_ERR_SYSTEM,
				"the peer's device could not carry out the write; look at the "
				"peer's dmesg" },
	[IBV_WC_RETRY_EXC_ERR] = { "IBV_WC_RETRY_EXC_ERR", RDT_ERR_PEER_LOST,
				   "the peer no longer answers: its process ended, or the link is "
				   "cut or drops packets; check that it runs, `ping` its address, "
				   "`rdma link`, `rdma statistic`; on a lossy network raise "
				   "RDTRAIN_IB_TIMEOUT" },
	[IBV_WC_RNR_RETRY_EXC_ERR] = { "IBV_WC_RNR_RETRY_EXC_ERR", RDT_ERR_SYSTEM,
				       "the peer had no receive posted: more notifications were "
				       "outstanding than it was told to expect, a fault of this "
				       "library" },
	[IBV_WC_REM_ABORT_ERR] = { "IBV_WC_REM_ABORT_ERR", RDT_ERR_PEER_LOST,
				   "the peer's device gave the request up" },
	[IBV_WC_FATAL_ERR] = { "IBV_WC_FATAL_ERR", RDT_ERR_SYSTEM,
			       "the device is in an unrecoverable state; look at dmesg" },
	[IBV_WC_RESP_TIMEOUT_ERR] = { "IBV_WC_RESP_TIMEOUT_ERR", RDT_ERR_PEER_LOST,
				      "the peer did not answer in time" },
	[IBV_WC_GENERAL_ERR] = { "IBV_WC_GENERAL_ERR", RDT_ERR_SYSTEM,
				 "the device reports a transport error of its own kind; see its "
				 "vendor error, and dmesg" },
};

#define COMPLETIONS (sizeof(completions) / sizeof(completions[0]))

const char *rdt_verbs_wc_name(enum ibv_wc_status status)
{
	if ((size_t)status < COMPLETIONS && completions[status].name)
		return completions[status].name;
	return "IBV_WC_?";
}

const char *rdt_verbs_wc_meaning(enum ibv_wc_status status)
{
	if ((size_t)status < COMPLETIONS && completions[status].meaning)
		return completions[status].meaning;
	return ibv_wc_status_str(status);
}

int rdt_verbs_wc_class(enum ibv_wc_status status)
{
	if ((size_t)status < COMPLETIONS && completions[status].name)
		return completions[status].class;
	return RDT_ERR_SYSTEM;
}

bool rdt_verbs_wc_suspect(enum ibv_wc_status status)
{
	/* LOC_QP_OP_ERR: soft-RoCE says so of a link that goes down, before it says that it is. */
	return status == IBV_WC_LOC_QP_OP_ERR || status == IBV_WC_REM_ACCESS_ERR ||
	       status == IBV_WC_REM_OP_ERR || status == IBV_WC_REM_INV_REQ_ERR ||
	       status == IBV_WC_REM_ABORT_ERR;
}

/* Without a link the peer is out of reach, whatever the device makes of it. */
static bool link_is_down(const struct rdt_verbs *t)
{
	struct ibv_port_attr attr;

	return ibv_query_port(t->choice.ctx, (uint8_t)t->choice.port, &attr) == 0 &&
	       attr.state != IBV_PORT_ACTIVE;
}

void rdt_verbs_wc_fail(struct rdt_verbs_ep *ep, const struct ibv_wc *wc)
{
	char here[RDT_VERBS_ADDR_TEXT] = "?", there[RDT_VERBS_ADDR_TEXT] = "?";
	const struct rdt_verbs *t = ep->t;
	bool down = link_is_down(t);

	if (ep->up) {
		rdt_verbs_addr_text(&t->choice.local[ep->up->src].addr, here);
		rdt_verbs_addr_text(&ep->peer.addr[ep->up->dst], there);
	}
	rdt_verbs_ep_fail(ep, down ? RDT_ERR_PEER_LOST : rdt_verbs_wc_class(wc->status),
			  "verbs: %s (status %d, vendor 0x%x) on the connection from rank %d (%s, "
			  "%s, qp %u) to rank %d (%s, %s, qp %u): %s",
			  rdt_verbs_wc_name(wc->status), wc->status, wc->vendor_err, t->config.rank,
			  t->choice.device, here, wc->qp_num, ep->head.peer, ep->peer.device, there,
			  ep->peer_qp_num,
			  down ? "the link of this host's port is down; check `rdma link` and the "
				 "cable"
			       : rdt_verbs_wc_meaning(wc->status));
}

void rdt_verbs_refusal_pack(enum rdt_verbs_refusal refusal, unsigned char bytes[8])
{
	uint32_t words[2] = { htole32(REFUSAL_MAGIC), htole32(refusal) };

	memcpy(bytes, words, sizeof(words));
}

static const char *refusal_text(const void *data, size_t length)
{
	uint32_t words[2];

	if (length < sizeof(words))
		return "refused by the program that listens there";
	memcpy(words, data, sizeof(words));
	if (le32toh(words[0]) != REFUSAL_MAGIC)
		return "refused by the program that listens there";
	switch ((enum rdt_verbs_refusal)le32toh(words[1])) {
	case RDT_REFUSED_UNKNOWN: break;
	case RDT_REFUSED_STRANGER: return "refused: the rank there belongs to another job";
	case RDT_REFUSED_GENERATION: return "refused: the rank there is of another generation";
	case RDT_REFUSED_RANK: return "refused: another rank listens there";
	case RDT_REFUSED_TWICE: return "refused: connected already";
	case RDT_REFUSED_BUSY: return "refused: too many requests at a time";
	case RDT_REFUSED_CLOSED: return "refused: the rank there has shut down";
	}
	return "refused by the rank there";
}

static const char *reject_text(int reason, const void *data, size_t length)
{
	switch (reason) {
	case REJ_NO_QP: return "refused: the peer's device has no queue pair left";
	case REJ_TIMEOUT: return "refused: timed out at the peer's connection manager";
	case REJ_INVALID_SERVICE: return "refused: nobody listens there, the process has ended";
	case REJ_STALE: return "refused: the peer's device still remembers an old connection";
	case REJ_PORT_REJECT: return "refused: the peer's port cannot be used";
	case REJ_CONSUMER: return refusal_text(data, length);
	default: return "refused by the peer's connection manager";
	}
}

void rdt_verbs_cm_reason(enum rdma_cm_event_type event, int status, const void *data, size_t length,
			 char *text, size_t size)
{
	switch (event) {
	case RDMA_CM_EVENT_ADDR_ERROR:
		snprintf(text, size, "no neighbour answers there (%s)", strerror(abs(status)));
		break;
	case RDMA_CM_EVENT_ROUTE_ERROR:
		snprintf(text, size, "no route (%s)", strerror(abs(status)));
		break;
	case RDMA_CM_EVENT_UNREACHABLE:
		snprintf(text, size,
			 "no answer to the connection request (%s); for RoCE, is UDP port 4791 "
			 "open?",
			 strerror(abs(status)));
		break;
	case RDMA_CM_EVENT_REJECTED:
		snprintf(text, size, "%s (reason %d)", reject_text(status, data, length), status);
		break;
	default:
		snprintf(text, size, "%s (%s)", rdma_event_str(event), strerror(abs(status)));
		break;
	}
}

int rdt_verbs_resource_err(struct rdt_verbs *t, const char *what)
{
	int error = errno;
	struct rdt_memlock memlock;

	rdt_memlock_read(&memlock);
	if (error == ENOMEM && !memlock.exempt && memlock.limit != UINT64_MAX)
		return rdt_err(
			RDT_ERR_NOMEM,
			"verbs: %s gives no %s: %s; it may be the limit of locked memory, "
			"%llu KiB: `ulimit -l unlimited`, or `docker run --ulimit memlock=-1`",
			t->choice.device, what, strerror(error),
			(unsigned long long)(memlock.limit / 1024));
	return rdt_err(error == ENOMEM ? RDT_ERR_NOMEM : RDT_ERR_SYSTEM,
		       "verbs: %s gives no %s: %s; see `rdma resource` for what is in use",
		       t->choice.device, what, strerror(error));
}
