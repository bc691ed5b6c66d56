/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `rdtrain perf` shows: a table in the columns of nccl-tests, on rank 0's standard output, and
 * the same numbers with percentiles as JSON. Every rank has a report; the others' only add up.
 */
#include "tools/perf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "lib/base/error.h"

#define RANKS_SHOWN 64

/* Who a rank is: summed over all ranks, of which each fills in one. */
struct place {
	char host[56];
	uint64_t pid;
};

struct perf_report {
	const struct perf_settings *settings;
	int rank, size;
	FILE *file; /* NULL: no JSON, or another rank writes it */
	json_t *results, *hosts;
	double busbw_sum;
	long busbw_count;
	int64_t wrong;
};

static const char *form_name(enum perf_form form)
{
	static const char *const names[] = { "blocking", "start", "plan" };

	return names[form];
}

static const char *memory_name(enum perf_memory memory)
{
	static const char *const names[] = { "alloc", "register", "malloc" };

	return names[memory];
}

static const char *transport_name(void)
{
	const char *name = getenv("RDTRAIN_TRANSPORT");

	return name && *name ? name : "auto";
}

/* The headings over print_timing's columns, once for each place. */
static void print_columns(const struct perf_settings *s)
{
	static const char *const rows[3][3] = {
		{ "#", "", "" },
		{ "#       size         count      type   redop    root",
		  "     time   algbw   busbw  #wrong", "      p50      p99      max" },
		{ "#        (B)    (elements)", "     (us)  (GB/s)  (GB/s)        ",
		  "     (us)     (us)     (us)" },
	};
	static const char *const places[] = { "out-of-place", "in-place" };

	for (int row = 0; row < 3; row++) {
		char line[256];
		int n = snprintf(line, sizeof(line), "%-52s", rows[row][0]);

		for (int i = 0; i < 2; i++)
			n += snprintf(line + n, sizeof(line) - (size_t)n, "%*s%*s", 33,
				      row ? rows[row][1] : places[i], s->verbose ? 27 : 0,
				      s->verbose ? rows[row][2] : "");
		while (n > 0 && line[n - 1] == ' ')
			n--;
		printf("%.*s\n", n, line);
	}
}

static void print_head(const struct perf_report *r, const struct place *places)
{
	const struct perf_settings *s = r->settings;
	char amount[64];

	if (s->iterations < 0)
		snprintf(amount, sizeof(amount), "by time");
	else
		snprintf(amount, sizeof(amount), "%ld", s->iterations);
	printf("# rdtrain %s perf %s: ranks %d, transport %s, form %s, memory %s\n", rdt_version(),
	       s->collective, r->size, transport_name(), form_name(s->form),
	       memory_name(s->memory));
	printf("# minBytes %llu maxBytes %llu step: ", (unsigned long long)s->begin,
	       (unsigned long long)s->end);
	if (s->factor > 1)
		printf("%g(factor)", s->factor);
	else
		printf("%llu(bytes)", (unsigned long long)s->step);
	printf(" iters: %s validation: %d\n#\n", amount, s->check);
	for (int i = 0; i < r->size && i < RANKS_SHOWN; i++)
		printf("#  Rank %2d Pid %6llu on %s\n", i, (unsigned long long)places[i].pid,
		       places[i].host);
	if (r->size > RANKS_SHOWN)
		printf("#  and %d more\n", r->size - RANKS_SHOWN);
	printf("#\n");
	print_columns(s);
	fflush(stdout);
}

/* Three or four figures, whatever the size, in at most 8 places. */
static const char *microseconds(double seconds, char text[32])
{
	double us = seconds * 1e6;

	snprintf(text, 32, us < 100 ? "%.2f" : us < 1000 ? "%.1f" : "%.0f", us);
	return text;
}

static void print_timing(const struct perf_settings *s, const struct perf_timing *t)
{
	char text[32], wrong[32] = "N/A";

	if (t->iterations == 0) {
		printf("%9s%8s%8s%8s", "-", "-", "-", "-");
		if (s->verbose)
			printf("%9s%9s%9s", "-", "-", "-");
		return;
	}
	if (t->wrong >= 0)
		snprintf(wrong, sizeof(wrong), "%lld", (long long)t->wrong);
	printf(" %8s", microseconds(t->mean, text));
	printf(" %7.2f %7.2f %7s", t->algbw, t->busbw, wrong);
	if (!s->verbose)
		return;
	printf(" %8s", microseconds(t->p50, text));
	printf(" %8s", microseconds(t->p99, text));
	printf(" %8s", microseconds(t->max, text));
}

static json_t *timing_json(const struct perf_timing *t)
{
	json_t *object;

	if (t->iterations == 0)
		return json_null();
	object = json_pack("{s:I s:f s:f s:f s:f s:f s:f}", "iterations", (json_int_t)t->iterations,
			   "time_us", t->mean * 1e6, "p50_us", t->p50 * 1e6, "p99_us", t->p99 * 1e6,
			   "max_us", t->max * 1e6, "algbw", t->algbw, "busbw", t->busbw);
	if (object)
		json_object_set_new(object, "wrong",
				    t->wrong >= 0 ? json_integer(t->wrong) : json_null());
	return object;
}

/* All ranks' places on rank 0, and whether any rank is in trouble: its failure ends all. */
static int meet(rdt_comm *comm, struct perf_report *r, struct place *places)
{
	struct place *me = &places[r->rank];

	if (gethostname(me->host, sizeof(me->host) - 1))
		strcpy(me->host, "?");
	me->pid = (uint64_t)getpid();
	return rdt_allreduce(comm, places, places, (size_t)r->size * sizeof(*places), RDT_UINT8,
			     RDT_SUM);
}

int perf_report_new(rdt_comm *comm, const struct perf_settings *settings,
		    struct perf_report **report)
{
	struct perf_report *r = calloc(1, sizeof(*r));
	struct place *places = calloc((size_t)rdt_comm_size(comm), sizeof(*places));
	int status = RDT_OK;

	if (!r || !places) {
		status = rdt_err(RDT_ERR_NOMEM, "no memory for the report");
		goto fail;
	}
	r->settings = settings;
	r->rank = rdt_comm_rank(comm);
	r->size = rdt_comm_size(comm);
	if (settings->json && r->rank == 0) {
		/* now, not when all the work is done */
		r->file = fopen(settings->json, "we");
		if (!r->file) {
			status = rdt_err_errno(RDT_ERR_INVALID, "cannot write %s", settings->json);
			goto fail;
		}
		r->results = json_array();
		r->hosts = json_array();
	}
	status = meet(comm, r, places);
	if (status)
		goto fail;
	for (int i = 0; i < r->size && r->hosts; i++)
		json_array_append_new(r->hosts, json_string(places[i].host));
	if (r->rank == 0)
		print_head(r, places);
	free(places);
	*report = r;
	return 0;
fail:
	free(places);
	perf_report_free(r);
	return status;
}

static void count_in(struct perf_report *r, const struct perf_timing *t)
{
	if (t->iterations == 0)
		return;
	r->busbw_sum += t->busbw;
	r->busbw_count++;
	if (t->wrong > 0)
		r->wrong += t->wrong;
}

int perf_report_add(struct perf_report *r, const struct perf_result *result)
{
	json_t *entry;

	count_in(r, &result->out_of_place);
	count_in(r, &result->in_place);
	if (r->rank != 0)
		return 0;
	printf("%12llu  %12llu  %8s  %6s  %6d", (unsigned long long)result->bytes,
	       (unsigned long long)result->count, rdt_type_name(result->type),
	       rdt_op_name(result->op), -1);
	print_timing(r->settings, &result->out_of_place);
	print_timing(r->settings, &result->in_place);
	printf("\n");
	if (fflush(stdout))
		return rdt_err_errno(RDT_ERR_SYSTEM, "cannot write to standard output");
	if (!r->results)
		return 0;
	entry = json_pack("{s:I s:I s:s s:s s:o s:o}", "size", (json_int_t)result->bytes, "count",
			  (json_int_t)result->count, "type", rdt_type_name(result->type), "redop",
			  rdt_op_name(result->op), "out_of_place",
			  timing_json(&result->out_of_place), "in_place",
			  timing_json(&result->in_place));
	if (!entry || json_array_append_new(r->results, entry))
		return rdt_err(RDT_ERR_NOMEM, "no memory for the results");
	return 0;
}

static int write_json(struct perf_report *r, double average)
{
	const struct perf_settings *s = r->settings;
	json_t *root = json_pack(
		"{s:s s:s s:i s:O s:s s:s s:s s:O s:f s:o}", "version", rdt_version(), "collective",
		s->collective, "ranks", r->size, "hosts", r->hosts, "transport", transport_name(),
		"form", form_name(s->form), "memory", memory_name(s->memory), "results", r->results,
		"avg_busbw", average, "wrong", s->check ? json_integer(r->wrong) : json_null());
	int status = 0, bad;

	if (!root)
		return rdt_err(RDT_ERR_NOMEM, "no memory for the JSON file");
	bad = json_dumpf(root, r->file, JSON_INDENT(2)) || fputc('\n', r->file) == EOF;
	bad |= fclose(r->file) != 0;
	r->file = NULL;
	if (bad)
		status = rdt_err_errno(RDT_ERR_SYSTEM, "cannot write %s", s->json);
	json_decref(root);
	return status;
}

int perf_report_end(struct perf_report *r, int64_t *wrong)
{
	double average = r->busbw_count ? r->busbw_sum / (double)r->busbw_count : 0;

	*wrong = r->wrong;
	if (r->rank != 0)
		return 0;
	if (r->settings->check)
		printf("# Out of bounds values : %lld %s\n", (long long)r->wrong,
		       r->wrong ? "FAILED" : "OK");
	printf("# Avg bus bandwidth    : %g\n#\n", average);
	fflush(stdout);
	return r->file ? write_json(r, average) : 0;
}

void perf_report_free(struct perf_report *r)
{
	if (!r)
		return;
	if (r->file)
		fclose(r->file);
	json_decref(r->results);
	json_decref(r->hosts);
	free(r);
}
