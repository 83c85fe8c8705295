/* Acts as the tracer: joins as any process, and writes rings in the format of trace_format.h. */
#ifndef MEMATLAS_TESTS_PRODUCER_H
#define MEMATLAS_TESTS_PRODUCER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../collector/collector.h"
#include "check_state.h"
#include "mematlas.h"
#include "trace_format.h"

#define RING_BYTES 65536u
#define RING_WORDS (RING_BYTES / 8)
#define FILE_BYTES (TRACE_DATA_OFFSET + (size_t)TRACE_MAX_RINGS * RING_BYTES)

struct producer {
	struct trace_process *process;
	struct trace_ring *rings;
	uint64_t *data;
	uint64_t image;
};

static struct mematlas_collector *session_start_limited(double mean, uint32_t most_nodes)
{
	struct mematlas_trace_settings settings = {.exact = mean == 0,
						   .ring_bytes = RING_BYTES,
						   .sample_bytes = (uint64_t)mean,
						   .budget = 0.02,
						   .most_nodes = most_nodes};
	struct mematlas_collector *collector;

	CHECK(mematlas_collector_create(&settings, NULL, &collector) == 0);
	return collector;
}

__attribute__((unused)) static struct mematlas_collector *session_start(double mean)
{
	return session_start_limited(mean, 0);
}

static void session_end(struct mematlas_collector *collector)
{
	for (uint32_t i = 0; i < collector->count; i++)
		if (collector->processes[i]->active && collector->processes[i]->mapped)
			CHECK_STATE(&collector->processes[i]->state);
	mematlas_collector_destroy(collector);
}

/* Joins as the process `pid`; `fork_image`, `fork_serial` as in struct trace_request. */
static struct producer produce_fork(struct mematlas_collector *collector, int pid, unsigned rings,
				    uint64_t fork_image, uint64_t fork_serial)
{
	struct trace_request request = {
		.rings = TRACE_MAX_RINGS, .image = fork_image, .fork_serial = fork_serial};
	struct sender sender = {pid, getuid(), (int)syscall(SYS_pidfd_open, pid, 0)};
	struct trace_answer answer;
	struct producer producer;

	CHECK(sender.pidfd >= 0);
	int fd = broker_admit(&collector->broker, &sender, &request, &answer);
	CHECK(fd >= 0 && answer.rings == TRACE_MAX_RINGS);
	close(sender.pidfd);
	char *file =
		mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	CHECK(file != MAP_FAILED);
	close(fd);
	producer.image = answer.image;
	producer.process = (struct trace_process *)file;
	producer.rings = (struct trace_ring *)(file + TRACE_RINGS_OFFSET);
	producer.data = (uint64_t *)(file + TRACE_DATA_OFFSET);
	producer.process->magic = TRACE_MAGIC;
	producer.process->version = TRACE_VERSION;
	producer.process->pid = pid;
	producer.process->rings = rings;
	producer.process->most_rings = TRACE_MAX_RINGS;
	for (unsigned i = 0; i < rings; i++)
		producer.rings[i].state = TRACE_RING_ACTIVE;
	return producer;
}

__attribute__((unused)) static struct producer produce(struct mematlas_collector *collector,
						       int pid, unsigned rings)
{
	return produce_fork(collector, pid, rings, 0, 0);
}

__attribute__((unused)) static void announce(struct producer *producer)
{
	__atomic_store_n(&producer->process->state, TRACE_RUNNING, __ATOMIC_RELEASE);
}

static void put(struct producer *producer, unsigned ring, const uint64_t *words, unsigned count)
{
	struct trace_ring *shared = &producer->rings[ring];
	uint64_t *data = producer->data + (size_t)ring * RING_WORDS;

	CHECK(shared->head + count - shared->tail <= RING_WORDS);
	for (unsigned i = 0; i < count; i++)
		data[(shared->head + i) & (RING_WORDS - 1)] = words[i];
	__atomic_store_n(&shared->head, shared->head + count, __ATOMIC_RELEASE);
	CHECK(trace_ring_is_valid(shared, RING_WORDS));
}

#define PUT(producer, ring, ...)                                                                   \
	put(producer, ring, (const uint64_t[]){__VA_ARGS__},                                       \
	    sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

__attribute__((unused)) static void put_alloc(struct producer *p, unsigned ring, uint64_t time,
					      int kind, uint64_t address, uint64_t size,
					      uint64_t stack, unsigned flags)
{
	PUT(p, ring, TRACE_ALLOC | time << 8,
	    address | (uint64_t)kind << 48 | (uint64_t)flags << 56, size, stack);
}

__attribute__((unused)) static void put_free(struct producer *p, unsigned ring, uint64_t time,
					     int kind, uint64_t address)
{
	PUT(p, ring, TRACE_FREE | time << 8, address | (uint64_t)kind << 48);
}

/* A stack of one native frame. */
__attribute__((unused)) static void put_stack(struct producer *p, unsigned ring, uint64_t id,
					      uint64_t pc)
{
	PUT(p, ring, TRACE_STACK | 4 << 8, id, 1, pc);
}

__attribute__((unused)) static void poll_all(struct mematlas_collector *collector)
{
	struct mematlas_event event;

	for (int i = 0; i < 8; i++)
		CHECK(mematlas_collector_poll(collector, 0, &event) >= 0);
}

__attribute__((unused)) static struct mematlas_traced traced_of(
	struct mematlas_collector *collector, int process)
{
	struct mematlas_traced traced;

	CHECK(mematlas_collector_process(collector, process, &traced) == 0);
	return traced;
}

/* The totals of the stack whose leaf is `word`. */
__attribute__((unused)) static struct mematlas_total total_at(struct mematlas_collector *collector,
							      int process, uint64_t word,
							      uint32_t kind)
{
	static struct mematlas_total rows[4096];
	static struct mematlas_node nodes[4096];
	int64_t count = mematlas_collector_totals(collector, process, rows, 4096);
	int64_t node_count = mematlas_collector_nodes(collector, process, 0, nodes, 4096);

	for (int64_t i = 0; i < count; i++)
		if (rows[i].stack < node_count && nodes[rows[i].stack].word == word &&
		    rows[i].kind == kind)
			return rows[i];
	return (struct mematlas_total){0};
}

#endif
