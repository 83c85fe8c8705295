/* Acts as the tracer: writes process files and rings in the format of trace_format.h. */
#ifndef MEMATLAS_TESTS_PRODUCER_H
#define MEMATLAS_TESTS_PRODUCER_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
};

static struct mematlas_collector *session_start(char *directory, double mean)
{
	struct mematlas_trace_settings settings = {.exact = mean == 0,
						   .ring_bytes = RING_BYTES,
						   .sample_bytes = (uint64_t)mean,
						   .budget = 0.02};
	struct mematlas_collector *collector;

	strcpy(directory, "/tmp/mematlas-test-XXXXXX");
	CHECK(mkdtemp(directory));
	CHECK(mematlas_collector_create(directory, &settings, &collector) == 0);
	return collector;
}

static void session_end(struct mematlas_collector *collector, const char *directory)
{
	char command[128];

	for (uint32_t i = 0; i < collector->count; i++)
		if (collector->processes[i]->active && collector->processes[i]->mapped)
			CHECK_STATE(&collector->processes[i]->state);
	mematlas_collector_destroy(collector);
	snprintf(command, sizeof command, "rm -r %s", directory);
	CHECK(system(command) == 0);
}

static struct producer produce(const char *directory, int pid, int image, unsigned rings)
{
	struct producer producer;
	char path[128];

	snprintf(path, sizeof path, "%s/%d.%d", directory, pid, image);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && ftruncate(fd, FILE_BYTES) == 0);
	char *file =
		mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	CHECK(file != MAP_FAILED);
	close(fd);
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

static void announce(struct producer *producer)
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
static void put_stack(struct producer *p, unsigned ring, uint64_t id, uint64_t pc)
{
	PUT(p, ring, TRACE_STACK | 4 << 8, id, 1, pc);
}

static void poll_all(struct mematlas_collector *collector)
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
