// SPDX-License-Identifier: BSD-3-Clause
// Times Gloo's chunked ring; see bench.h.
// usage: gloo_allreduce FROM TO FACTOR RANK SIZE STORE_FOLDER tcp|ibverbs INTERFACE_OR_DEVICE
#include <cstring>
#include <memory>
#include <vector>

#include <gloo/allreduce_ring_chunked.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/ibverbs/device.h>
#include <gloo/transport/tcp/device.h>

#include "bench.h"

template <typename T> using Ring = gloo::AllreduceRingChunked<T>;

static std::shared_ptr<gloo::rendezvous::Context> context;
static std::unique_ptr<Ring<float>> rings[BENCH_BUFFERS];
static std::unique_ptr<Ring<float>> meeting;
static float token;

// Registers the buffer, as a plan does.
static void prepare(float *buffer, size_t count, int which)
{
	rings[which].reset(new Ring<float>(context, { buffer }, (int)count));
}

static void allreduce(float *, size_t, int which)
{
	rings[which]->run();
}

// Gloo's own barriers are not there for every device.
static void barrier()
{
	meeting->run();
}

static void largest(double *samples, int n)
{
	Ring<double>(context, { samples }, n, gloo::ReductionFunction<double>::max).run();
}

static std::shared_ptr<gloo::transport::Device> open_device(const char *kind, const char *name)
{
	if (strcmp(kind, "tcp") == 0) {
		gloo::transport::tcp::attr attr;

		attr.iface = name;
		return gloo::transport::tcp::CreateDevice(attr);
	}
	gloo::transport::ibverbs::attr attr;

	attr.name = name;
	attr.port = 1;
	attr.index = 1; // of the GID: IPv4, RoCE v2
	return gloo::transport::ibverbs::CreateDevice(attr);
}

int main(int argc, char **argv)
{
	if (argc != 9) {
		fprintf(stderr, "usage: %s FROM TO FACTOR RANK SIZE FOLDER tcp|ibverbs NAME\n", argv[0]);
		return 2;
	}
	size_t from = bench_size(argc, argv, 1, 8), to = bench_size(argc, argv, 2, 64u << 20);
	int rank = atoi(argv[4]), size = atoi(argv[5]);
	auto store = std::make_shared<gloo::rendezvous::FileStore>(argv[6]);
	auto device = open_device(argv[7], argv[8]);
	struct bench b = {};

	context = std::make_shared<gloo::rendezvous::Context>(rank, size);
	context->connectFullMesh(*store, device);
	meeting.reset(new Ring<float>(context, { &token }, 1));
	b.rank = rank;
	// A pair over ibverbs has queues for few algorithms at a time.
	b.buffers = strcmp(argv[7], "tcp") == 0 ? BENCH_BUFFERS : 1;
	b.prepare = prepare;
	b.allreduce = allreduce;
	b.barrier = barrier;
	b.largest = largest;
	b.pool = (float *)aligned_alloc(4096, bench_pool(to));
	bench_run(&b, from, to, atof(argv[3]));
	for (auto &ring : rings)
		ring.reset();
	meeting.reset();
	return 0;
}
