/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Training that outlives its workers: what a trainer does when a call of librdtrain has failed,
 * when new workers wait, and how all come to the same state again. Knows nothing of networks.
 *
 * After a failure: elastic_save; end what was made on the communicator; elastic_survive; make it
 * again on the new one; elastic_restore; elastic_share; and try the step again. When
 * elastic_admit gives a larger communicator: the same, in place of elastic_survive. A worker that
 * was started with RDTRAIN_JOIN=1 gets its communicator from rdt_comm_create when it is admitted,
 * and begins with elastic_share.
 */
#ifndef EXAMPLES_ELASTIC_H
#define EXAMPLES_ELASTIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rdtrain/rdtrain.h>

/* Memory that is alike on all workers: parameters, the optimizer's state, where the training is. */
struct elastic_piece {
	void *at;
	size_t bytes;
};

/* A copy of the pieces, or NULL; and back from there, to pieces of the same lengths. */
void *elastic_save(const struct elastic_piece *pieces, int n);
void elastic_restore(const void *copy, const struct elastic_piece *pieces, int n);

/*
 * *comm becomes a communicator of the survivors, and the old one is destroyed with its plans and
 * memory. 0; or a status, when the survivors cannot go on or this worker cannot go with them.
 */
int elastic_survive(rdt_comm **comm);

/* Between two steps, on all workers: *larger has those that wait, too; NULL when nobody does. */
int elastic_admit(rdt_comm *comm, rdt_comm **larger);

/*
 * Everybody gets the pieces of the worker that has completed the most steps: one that has seen the
 * last allreduce end before another failed, and none that has just come. Collective.
 */
int elastic_share(rdt_comm *comm, uint64_t steps, const struct elastic_piece *pieces, int n);

#endif
