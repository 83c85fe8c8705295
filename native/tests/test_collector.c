/* The collector on rings that the test writes. */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "producer.h"

#define M TRACE_MALLOC

/* Another thread may have allocated a block, so only time orders the records of two rings. */
static void test_order_between_rings(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 2);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_stack(&p, 1, 1, 0x2000);
	put_free(&p, 1, 20, M, 0xa0);
	put_alloc(&p, 1, 40, M, 0xb0, 7, 1, 0);
	put_alloc(&p, 0, 10, M, 0xa0, 100, 1, 0);
	put_alloc(&p, 0, 30, M, 0xa0, 50, 1, 0);
	put_free(&p, 0, 50, M, 0xb0);
	put_alloc(&p, 0, 1ull << 55, M, 0xc0, 999, 1,
		  0); /* newer than any cut, so not applied yet */
	poll_all(collector);
	struct mematlas_traced traced = traced_of(collector, 0);
	CHECK(traced.live_bytes == 50 && traced.peak_bytes == 100 && traced.unknown_frees == 0);
	CHECK(total_at(collector, 0, 0x1000, M).allocated_bytes == 150);
	CHECK(total_at(collector, 0, 0x2000, M).live_bytes == 0);
	CHECK(p.rings[0].tail == p.rings[0].head - 4);
	CHECK(p.rings[1].tail == p.rings[1].head);
	session_end(collector);
}

static void test_ring_wraps(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	uint64_t time = 1;

	announce(&p);
	for (uint64_t i = 0; i < 20000; i++) {
		put_stack(&p, 0, 1 + i % 1000, 0x1000 + i % 1000);
		put_alloc(&p, 0, time++, M, 0x10000 + i * 16, 16, 1 + i % 1000, 0);
		if (i % 3)
			PUT(&p, 0, TRACE_PAD);
		if (i % 2)
			put_free(&p, 0, time++, M, 0x10000 + i * 16);
		if (i % 500 == 0)
			poll_all(collector);
	}
	poll_all(collector);
	CHECK(traced_of(collector, 0).live_bytes == 10000 * 16);
	CHECK(traced_of(collector, 0).broken_rings == 0);
	CHECK(total_at(collector, 0, 0x1000, M).allocations == 20);
	session_end(collector);
}

static void test_mappings_are_cut(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_stack(&p, 0, 2, 0x2000);
	put_alloc(&p, 0, 1, TRACE_MMAP, 0x100000, 0x10000, 1, TRACE_FLAG_ALWAYS);
	PUT(&p, 0, TRACE_UNMAP | 2 << 8, 0x104000, 0x2000); /* a hole */
	PUT(&p, 0, TRACE_UNMAP | 3 << 8, 0x100000, 0x1000); /* the start */
	PUT(&p, 0, TRACE_UNMAP | 4 << 8, 0x10f000, 0x5000); /* the end and beyond */
	poll_all(collector);
	struct mematlas_total total = total_at(collector, 0, 0x1000, TRACE_MMAP);
	CHECK(total.live_bytes == 0xc000 && total.live_count == 2 && total.freed_bytes == 0x4000);
	put_alloc(&p, 0, 5, TRACE_ARENA, 0x200000, 0x8000, 2, TRACE_FLAG_ALWAYS);
	put_alloc(&p, 0, 6, TRACE_MMAP, 0x300000, 0x8000, 2, TRACE_FLAG_RESERVED);
	put_alloc(&p, 0, 7, TRACE_MMAP, 0x106000, 0x1000, 2, 0); /* over a part of the first */
	poll_all(collector);
	CHECK(traced_of(collector, 0).live_bytes == 0xc000);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MMAP).live_bytes == 0xb000);
	CHECK(total_at(collector, 0, 0x2000, TRACE_ARENA).live_bytes == 0);
	CHECK(total_at(collector, 0, 0x2000, TRACE_MMAP).live_bytes == 0x1000);
	PUT(&p, 0, TRACE_UNMAP | 8 << 8, 0, 0x1000000);
	poll_all(collector);
	CHECK(traced_of(collector, 0).live_bytes == 0);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MMAP).live_count == 0);
	session_end(collector);
}

static void test_failed_realloc_is_undone(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 1, M, 0xa0, 100, 1, 0);
	put_free(&p, 0, 2, M, 0xa0);
	PUT(&p, 0, TRACE_RESTORE | 3 << 8, 0xa0 | (uint64_t)M << 48);
	PUT(&p, 0, TRACE_RESTORE | 4 << 8, 0xa0 | (uint64_t)M << 48);
	poll_all(collector);
	struct mematlas_total total = total_at(collector, 0, 0x1000, M);
	CHECK(total.live_bytes == 100 && total.freed_bytes == 0 && total.live_count == 1);
	CHECK(total.allocated_bytes == 100);
	session_end(collector);
}

/* Blocks that were freed leave their cells for a while, and a search walks over these, too. */
static void test_searches_for_bad_frees_are_counted(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	for (uint64_t i = 1; i <= 1000; i++) {
		put_alloc(&p, 0, i, M, i << 16, 64, 1, 0);
		poll_all(collector);
	}
	for (uint64_t i = 1; i <= 1000; i++) {
		put_free(&p, 0, 1000 + i, M, i << 16);
		poll_all(collector);
	}
	PUT(&p, 0, TRACE_BAD_FREE | 3000 << 8, 0x123 | (uint64_t)M << 48, 1, 0);
	poll_all(collector);
	CHECK(collector->processes[0]->state.blocks.count == 0);
	CHECK(collector->processes[0]->bad_frees.searched >= 1000);
	session_end(collector);
}

/* The table of statistics moves while they are counted. */
static void test_bad_frees_of_new_stacks(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	double counted = 0;

	announce(&p);
	for (uint64_t i = 1; i <= 1000; i++) {
		put_stack(&p, 0, i, i << 8);
		PUT(&p, 0, TRACE_BAD_FREE | i << 8, 0x123 | (uint64_t)M << 48, i, 0);
		poll_all(collector);
	}
	for (uint64_t i = 1; i <= 1000; i++)
		counted += total_at(collector, 0, i << 8, M).bad_frees;
	CHECK(counted == 1000);
	session_end(collector);
}

static void test_bad_frees_are_described(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 4, M, 0xa0, 100, 1, 0);
	uint64_t record = TRACE_FREED_AT(0, p.rings[0].head / 2);
	put_free(&p, 0, 5, M, 0xa0);
	put_alloc(&p, 0, 6, M, 0x100, 64, 1, 0);
	PUT(&p, 0, TRACE_BAD_FREE | 7 << 8, 0xa0 | (uint64_t)M << 48, 1 | record << 32, 0x5000);
	PUT(&p, 0, TRACE_BAD_FREE | 8 << 8, 0x120 | (uint64_t)M << 48, 1, 0);
	PUT(&p, 0, TRACE_BAD_FREE | 9 << 8, 0x140 | (uint64_t)M << 48, 1, 0);
	/* Another free of the address than its last one: whose caller that was tells nothing. */
	PUT(&p, 0, TRACE_BAD_FREE | 10 << 8, 0xa0 | (uint64_t)M << 48, 1 | (record + 1) << 32,
	    0x6000);
	poll_all(collector);
	struct mematlas_total total = total_at(collector, 0, 0x1000, M);
	CHECK(total.live_bytes == 64 && total.bad_frees == 4);
	struct mematlas_bad_free bad[4];
	CHECK(mematlas_collector_bad_frees(collector, 0, bad, 4) == 4);
	CHECK(bad[0].reason == MEMATLAS_FREE_TWICE && bad[0].address == 0xa0);
	CHECK(bad[0].block_bytes == 100 && bad[0].block_node == bad[0].node && bad[0].freed_node);
	CHECK(bad[0].freed_s >= 0 && bad[0].freed_s <= bad[0].time_s);
	CHECK(bad[1].reason == MEMATLAS_FREE_INTERIOR && bad[1].block_address == 0x100);
	CHECK(bad[2].reason == MEMATLAS_FREE_UNKNOWN && bad[2].block_bytes == 0);
	CHECK(bad[3].reason == MEMATLAS_FREE_TWICE && bad[3].block_bytes == 100);
	CHECK(bad[3].freed_node == 0 && bad[3].freed_s >= 0);
	session_end(collector);
}

/* The child has the live memory of its parent at the fork, not what the parent did since. */
static void test_fork_clones(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer parent = produce(collector, getpid(), 1);
	int pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	announce(&parent);
	put_stack(&parent, 0, 1, 0x1000);
	put_alloc(&parent, 0, 1, M, 0xa0, 100, 1, 0);
	PUT(&parent, 0, TRACE_FORK | 2 << 8, 1);
	put_free(&parent, 0, 3, M, 0xa0);
	PUT(&parent, 0, TRACE_FORK | 4 << 8, 2);
	PUT(&parent, 0, TRACE_FORK_FAILED | 5 << 8, 2);
	struct producer child = produce_fork(collector, pid, 1, parent.image, 1);
	announce(&child);
	put_stack(&child, 0, 1, 0x3000);
	put_alloc(&child, 0, 6, M, 0xb0, 11, 1, 0);
	poll_all(collector);
	poll_all(collector);
	int first = traced_of(collector, 0).pid == getpid() ? 0 : 1, second = 1 - first;
	CHECK(traced_of(collector, first).live_bytes == 0);
	CHECK(traced_of(collector, second).live_bytes == 111 &&
	      traced_of(collector, second).inherited);
	CHECK(traced_of(collector, second).parent == first);
	CHECK(total_at(collector, second, 0x1000, M).live_bytes == 100);
	CHECK(total_at(collector, second, 0x1000, M).allocated_bytes == 0);
	put_free(&child, 0, 7, M, 0xa0);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	poll_all(collector);
	CHECK(traced_of(collector, second).live_bytes == 11);
	CHECK(traced_of(collector, second).ending == MEMATLAS_GONE);
	CHECK(traced_of(collector, second).peak_bytes == 111);
	session_end(collector);
}

/* A child is forked and execs before the collector looks: its two images are found in the round of the parent. */
static void test_fork_execs_at_once(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer parent = produce(collector, getpid(), 1);
	int pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	announce(&parent);
	PUT(&parent, 0, TRACE_FORK | 2 << 8, 1);
	struct producer child = produce_fork(collector, pid, 1, parent.image, 1);
	announce(&child);
	struct producer next = produce(collector, pid, 1);
	announce(&next);
	poll_all(collector);
	CHECK(traced_of(collector, 1).inherited && !traced_of(collector, 2).inherited);
	CHECK(traced_of(collector, 1).forked && !traced_of(collector, 2).forked);
	CHECK(traced_of(collector, 1).ending == MEMATLAS_EXECED);
	poll_all(collector);
	struct producer third = produce(collector, pid, 1), late = produce(collector, pid, 1);
	announce(&third); /* the next has joined already, but does not record yet */
	poll_all(collector);
	CHECK(traced_of(collector, 2).ending == MEMATLAS_EXECED);
	CHECK(traced_of(collector, 3).ending == MEMATLAS_EXECED);
	announce(&late);
	poll_all(collector);
	CHECK(traced_of(collector, 4).ending == MEMATLAS_RUNNING);
	produce(collector, pid, 1); /* ends before it starts */
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	poll_all(collector);
	CHECK(traced_of(collector, 4).ending == MEMATLAS_EXECED);
	session_end(collector);
}

#define SITES 7
#define LIVE 300

/* The shares of the peak, against a copy of all shares at every new maximum. */
static void test_peak_shares(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	double live[SITES] = {0}, share[SITES] = {0}, total = 0, peak = 0;
	uint64_t sizes[LIVE] = {0}, owners[LIVE] = {0}, seed = 42;

	announce(&p);
	for (uint64_t site = 0; site < SITES; site++)
		put_stack(&p, 0, site + 1, 0x1000 + site);
	for (uint64_t step = 1; step < 40000; step++) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t at = (seed >> 33) % LIVE, address = 0x10000 + at * 4096;
		if (sizes[at]) {
			put_free(&p, 0, step, M, address);
			live[owners[at]] -= (double)sizes[at];
			total -= (double)sizes[at];
			sizes[at] = 0;
		} else {
			sizes[at] = 1 + (seed >> 40) % 4000;
			owners[at] = (seed >> 20) % SITES;
			put_alloc(&p, 0, step, M, address, sizes[at], owners[at] + 1, 0);
			live[owners[at]] += (double)sizes[at];
			total += (double)sizes[at];
		}
		if (total > peak) {
			peak = total;
			memcpy(share, live, sizeof share);
		}
		if (step % 1000 == 0)
			poll_all(collector);
	}
	poll_all(collector);
	CHECK(traced_of(collector, 0).peak_bytes == peak &&
	      traced_of(collector, 0).live_bytes == total);
	for (uint64_t site = 0; site < SITES; site++) {
		CHECK(total_at(collector, 0, 0x1000 + site, M).peak_bytes == share[site]);
		CHECK(total_at(collector, 0, 0x1000 + site, M).live_bytes == live[site]);
	}
	session_end(collector);
}

static void expect_stack(struct mematlas_collector *collector, uint64_t leaf, const uint64_t *words,
			 int count)
{
	struct mematlas_node nodes[256];
	int64_t node_count = mematlas_collector_nodes(collector, 0, 0, nodes, 256);
	uint32_t at = total_at(collector, 0, leaf, M).stack;

	CHECK(at > 0 && at < node_count);
	for (int i = 0; i < count; i++) {
		CHECK(nodes[at].word == words[i]);
		at = nodes[at].parent;
	}
	CHECK(at == 0);
}

#define PY(code, offset) ((uint64_t)(code) << 32 | (offset))
#define ENTRY(code, offset) (PY(code, offset) | TRACE_PYTHON_ENTRY)
#define NODE(code, offset) (1ull << 63 | (uint64_t)(code) << 32 | (offset))
#define EVAL 0x5010
#define STACK(id, natives, pythons)                                                                \
	TRACE_STACK | (3 + natives + pythons) << 8, id, TRACE_COUNTS(natives, pythons, 0, 0)
#define EXPECT(leaf, ...)                                                                          \
	expect_stack(collector, leaf, (const uint64_t[]){__VA_ARGS__},                             \
		     sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

/* Native and Python frames of one stack, leaf first, with and without a frame for each other. */
static void test_stacks_merge(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	const char name[8] = "f", file[8] = "f.py";

	p.process->eval_start[0] = 0x5000;
	p.process->eval_end[0] = 0x6000;
	announce(&p);
	for (uint64_t code = 1; code <= 3; code++) {
		uint64_t words[10] = {
			TRACE_CODE | 10 << 8, code | (10 * code) << 32, 2, 1, 0, 4, 0, 2, 7, 0};
		memcpy(&words[4], name, 8);
		memcpy(&words[6], file, 8);
		put(&p, 0, words, 10);
	}
	/* two activations: f3 inlined into f2, and f1 */
	PUT(&p, 0, STACK(1, 5, 3), 0xa1, EVAL, 0xa2, EVAL, 0xa3, PY(3, 6), ENTRY(2, 4),
	    ENTRY(1, 2));
	/* no eval frame is known: Python frames go to the root */
	PUT(&p, 0, STACK(2, 2, 1), 0xb1, 0xb2, ENTRY(1, 2));
	/* native list cut at the root: frames match from the leaf, the remaining Python frames
	 * follow */
	PUT(&p, 0, STACK(3, 3, 2), 0xc1, EVAL, 0, ENTRY(2, 4), ENTRY(1, 2));
	/* an eval frame without a Python frame stays native */
	PUT(&p, 0, STACK(4, 3, 1), 0xd1, EVAL, EVAL + 1, ENTRY(1, 2));
	/* cut, and no Python frames remain: word 0 marks the cut */
	PUT(&p, 0, STACK(5, 2, 0), 0xe1, 0);
	for (uint64_t id = 1; id <= 5; id++)
		put_alloc(&p, 0, id, M, 0x1000 * id, 1, id, 0);
	poll_all(collector);
	EXPECT(0xa1, 0xa1, NODE(3, 6), NODE(2, 4), 0xa2, NODE(1, 2), 0xa3);
	EXPECT(0xb1, 0xb1, 0xb2, NODE(1, 2));
	EXPECT(0xc1, 0xc1, NODE(2, 4), NODE(1, 2));
	EXPECT(0xd1, 0xd1, NODE(1, 2), EVAL + 1);
	EXPECT(0xe1, 0xe1, 0);
	struct mematlas_code code;
	CHECK(mematlas_collector_code(collector, 0, 1, &code) == 0);
	CHECK(code.first_line == 20 && code.name_length == 1 && code.file_length == 4);
	CHECK(memcmp(code.file, "f.py", 4) == 0 && code.table_length == 2 && code.format == 2);
	session_end(collector);
}

/* Each stack shares its first frames, from the root, with the ring's stack before. */
static void test_stacks_share_frames(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 2);

	p.process->eval_start[0] = 0x5000;
	p.process->eval_end[0] = 0x6000;
	announce(&p);
	for (uint64_t code = 1; code <= 2; code++)
		put(&p, 0, (uint64_t[]){TRACE_CODE | 7 << 8, code | code << 32, 2, 0, 0, 0, 0}, 7);
	PUT(&p, 0, STACK(1, 4, 2), 0xa1, EVAL, 0xa2, 0xa3, PY(2, 4), ENTRY(1, 2));
	put_stack(&p, 1, 1, 0xe1); /* another ring, which shares nothing with the first */
	PUT(&p, 0, TRACE_STACK | 5 << 8, 2, TRACE_COUNTS(5, 2, 3, 2), 0xb1, 0xb2);
	PUT(&p, 0, TRACE_STACK | 4 << 8, 3, TRACE_COUNTS(5, 2, 5, 1), PY(2, 8));
	PUT(&p, 0, TRACE_STACK | 4 << 8, 4, TRACE_COUNTS(2, 0, 1, 0), 0xd1);
	for (uint64_t id = 1; id <= 4; id++)
		put_alloc(&p, 0, id, M, 0x1000 * id, 1, id, 0);
	poll_all(collector);
	EXPECT(0xa1, 0xa1, NODE(2, 4), NODE(1, 2), 0xa2, 0xa3);
	struct mematlas_node nodes[64];
	CHECK(mematlas_collector_nodes(collector, 0, 0, nodes, 64) == 1 + 5 + 1 + 2 + 3 + 1);
	EXPECT(0xd1, 0xd1, 0xa3);
	/* more frames kept than there were */
	PUT(&p, 0, TRACE_STACK | 3 << 8, 5, TRACE_COUNTS(3, 0, 3, 0));
	PUT(&p, 1, TRACE_STACK | 3 << 8, 2, TRACE_COUNTS(1, 1, 1, 1));
	poll_all(collector);
	CHECK(traced_of(collector, 0).broken_rings == 2);
	session_end(collector);
}

/* As many frames as allowed, and the 0 that marks a cut. */
static void test_longest_stack(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	uint64_t words[3 + TRACE_MAX_FRAMES + 1] = {TRACE_STACK | (4 + TRACE_MAX_FRAMES) << 8, 1,
						    TRACE_MAX_FRAMES + 1};

	announce(&p);
	for (unsigned i = 0; i < TRACE_MAX_FRAMES; i++)
		words[3 + i] = 0x1000 + i;
	put(&p, 0, words, 4 + TRACE_MAX_FRAMES);
	put_alloc(&p, 0, 1, M, 0xa0, 100, 1, 0);
	poll_all(collector);
	CHECK(total_at(collector, 0, 0x1000, M).live_bytes == 100);
	CHECK(traced_of(collector, 0).nodes == 2 + TRACE_MAX_FRAMES);
	CHECK(traced_of(collector, 0).broken_rings == 0);
	session_end(collector);
}

static void test_samples_are_weighted(void)
{
	struct mematlas_collector *collector = session_start(1000);
	struct producer p = produce(collector, getpid(), 1);
	double chance = 1 - exp(-0.5);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_stack(&p, 0, 2, 0x2000);
	put_alloc(&p, 0, 1, M, 0xa0, 500, 1, 0);
	put_alloc(&p, 0, 2, M, 0xb0, 500, 2, TRACE_FLAG_ALWAYS);
	put_alloc(&p, 0, 3, M, 0xc0, 0, 2, 0);
	poll_all(collector);
	struct mematlas_total total = total_at(collector, 0, 0x1000, M);
	CHECK(fabs(total.live_bytes - 500 / chance) < 1e-9);
	CHECK(fabs(total.live_count - 1 / chance) < 1e-9);
	CHECK(fabs(total.live_variance - 250000 * (1 - chance) / (chance * chance)) < 1e-6);
	total = total_at(collector, 0, 0x2000, M);
	CHECK(total.live_bytes == 500 && total.live_variance == 0);
	CHECK(fabs(total.live_count - 1 - 1 / (1 - exp(-0.001))) < 1e-9);
	put_free(&p, 0, 4, M, 0xa0);
	poll_all(collector);
	CHECK(total_at(collector, 0, 0x1000, M).live_bytes == 0);
	session_end(collector);
}

/* A malformed ring is skipped, others are read. */
static void test_broken_rings(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 4);

	announce(&p);
	PUT(&p, 0, 0x77, 1, 2, 3);
	PUT(&p, 1, TRACE_STACK | 900 << 8, 1, 0xffffffffffffffff);
	p.rings[2].head = 1u << 30;
	put_alloc(&p, 3, 1, M, 0xa0, 100, 77, 0); /* an undefined stack ID: no stack */
	poll_all(collector);
	CHECK(traced_of(collector, 0).broken_rings == 3 &&
	      traced_of(collector, 0).live_bytes == 100);
	for (int i = 0; i < 4; i++)
		CHECK(p.rings[i].tail == p.rings[i].head && p.rings[i].state == TRACE_RING_ACTIVE);
	session_end(collector);
}

/* A ring defines no more IDs than its records have space for, so no table grows beyond that. A state that
 * names no state of the fault samples counts as off. */
static void test_ids_and_states_out_of_range(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 3);

	announce(&p);
	put_stack(&p, 0, (1u << 24) - 1, 0x1000);
	PUT(&p, 1, TRACE_CODE | 6 << 8, 1u << 20, 1, 0, 0, 0);
	for (unsigned id = 1; id <= 300; id++)
		put_stack(&p, 2, id, 0x1000 + id);
	put_alloc(&p, 2, 1, M, 0xa0, 100, 300, 0);
	p.process->faults = 0x5a5a5a5a;
	poll_all(collector);
	const struct process *process = collector->processes[0];
	CHECK(traced_of(collector, 0).broken_rings == 2);
	CHECK(!process->rings[0].stacks_capacity && !process->rings[1].codes_capacity);
	CHECK(total_at(collector, 0, 0x1000 + 300, M).live_bytes == 100);
	CHECK(traced_of(collector, 0).faults == TRACE_FAULTS_OFF);
	session_end(collector);
}

/* Exit waits for release; a new image of the same PID ends the previous one. */
static void test_exit_and_exec(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_event event = {0};

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 1, M, 0xa0, 100, 1, 0);
	p.process->state = TRACE_EXITING;
	while (event.type != MEMATLAS_EVENT_EXITING)
		CHECK(mematlas_collector_poll(collector, 100, &event) == 1);
	CHECK(traced_of(collector, 0).live_bytes == 100 && p.process->released == 0);
	CHECK(mematlas_collector_release(collector, 0) == 0 && p.process->released == 1);
	/* An exec failed, and another begins before the collector looks again. */
	p.process->released = 0;
	for (event.type = MEMATLAS_EVENT_NONE; event.type != MEMATLAS_EVENT_EXITING;)
		CHECK(mematlas_collector_poll(collector, 1000, &event) == 1);
	CHECK(mematlas_collector_release(collector, 0) == 0 && p.process->released == 1);
	struct producer next = produce(collector, getpid(), 1);
	announce(&next);
	while (event.type != MEMATLAS_EVENT_ENDED)
		CHECK(mematlas_collector_poll(collector, 100, &event) == 1);
	CHECK(event.process == 0 && traced_of(collector, 0).ending == MEMATLAS_EXECED);
	CHECK(traced_of(collector, 1).ending == MEMATLAS_RUNNING &&
	      traced_of(collector, 1).live_bytes == 0);
	CHECK(mematlas_collector_forget(collector, 1) < 0);
	CHECK(mematlas_collector_forget(collector, 0) == 0);
	CHECK(traced_of(collector, 0).pid == getpid() && traced_of(collector, 0).nodes == 0);
	struct producer again = produce(collector, getpid(), 1);
	announce(&again);
	poll_all(collector);
	CHECK(traced_of(collector, 2).ending == MEMATLAS_RUNNING);
	session_end(collector);
}

int main(void)
{
	test_order_between_rings();
	test_ring_wraps();
	test_mappings_are_cut();
	test_failed_realloc_is_undone();
	test_bad_frees_of_new_stacks();
	test_bad_frees_are_described();
	test_searches_for_bad_frees_are_counted();
	test_fork_clones();
	test_fork_execs_at_once();
	test_peak_shares();
	test_stacks_merge();
	test_stacks_share_frames();
	test_longest_stack();
	test_samples_are_weighted();
	test_broken_rings();
	test_ids_and_states_out_of_range();
	test_exit_and_exec();
	return 0;
}
