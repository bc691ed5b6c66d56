/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of train_mlp as a checkpoint: parameters, the optimizer's state, where the training is.
 */
#ifndef EXAMPLES_CHECKPOINT_H
#define EXAMPLES_CHECKPOINT_H

#include "trainer.h"

/* Writes one into the directory that --checkpoint names. 0, or -1 with the sentence printed. */
int checkpoint_save(struct trainer *t, uint64_t position);
/* Goes on from the newest good one there; *position stays 0 where there is none. Likewise. */
int checkpoint_load(struct trainer *t, uint64_t *position);

#endif
