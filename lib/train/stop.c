/* SPDX-License-Identifier: BSD-3-Clause */
/* When to stop training: the first condition that holds. Rank 0 decides, lest workers part. */
#include <rdtrain/train.h>

#include <math.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum rdt_stop_reason decide(struct rdt_stop *stop, uint64_t epoch, double loss,
				   double gradient_norm)
{
	double before = stop->last_loss;
	uint64_t call = stop->calls++;

	if (call == 0)
		stop->began = now();
	stop->last_loss = loss;
	if (!isfinite(loss) || isnan(gradient_norm))
		return RDT_STOP_DIVERGED;
	if (stop->gradient_norm > 0 && gradient_norm <= stop->gradient_norm)
		return RDT_STOP_GRADIENT;
	if (stop->loss_change > 0 && call > 0 &&
	    fabs(loss - before) <= stop->loss_change * fabs(before))
		return RDT_STOP_LOSS;
	if (stop->epochs > 0 && epoch >= stop->epochs)
		return RDT_STOP_EPOCHS;
	if (stop->seconds > 0 && now() - stop->began >= stop->seconds)
		return RDT_STOP_TIME;
	return RDT_GO_ON;
}

int rdt_stop_check(struct rdt_stop *stop, rdt_comm *comm, uint64_t epoch, double loss,
		   double gradient_norm, enum rdt_stop_reason *reason)
{
	int32_t decided;
	int status = 0;

	if (!stop || !reason)
		return rdt_set_error(RDT_ERR_INVALID, "rdt_stop_check: %s is NULL",
				     stop ? "reason" : "stop");
	decided = (int32_t)decide(stop, epoch, loss, gradient_norm);
	if (comm)
		status = rdt_broadcast(comm, &decided, 1, RDT_INT32, 0);
	*reason = status ? RDT_GO_ON : (enum rdt_stop_reason)decided;
	return status;
}

const char *rdt_stop_name(enum rdt_stop_reason reason)
{
	switch (reason) {
	case RDT_GO_ON: return "not yet";
	case RDT_STOP_EPOCHS: return "epochs";
	case RDT_STOP_GRADIENT: return "gradient norm";
	case RDT_STOP_LOSS: return "loss change";
	case RDT_STOP_TIME: return "time";
	case RDT_STOP_DIVERGED: return "diverged";
	}
	return NULL;
}

double rdt_norm(const void *v, size_t count, enum rdt_type type)
{
	double sum = 0;

	if (type != RDT_FLOAT32 && type != RDT_FLOAT64)
		return NAN;
	for (size_t i = 0; i < count; i++) {
		double x = type == RDT_FLOAT32 ? (double)((const float *)v)[i]
					       : ((const double *)v)[i];

		sum += x * x;
	}
	return sqrt(sum);
}
