/* Reserved address space that a program commits and gives back, on rings that the test writes. */
#define _GNU_SOURCE
#include "producer.h"

#define RESERVE 0x1000
#define COMMIT 0x2000
#define AGAIN 0x3000
#define COMMITTED MEMATLAS_KIND_COMMITTED

struct scene {
	struct mematlas_collector *collector;
	struct producer p;
};

static struct scene begin(void)
{
	struct scene scene = {.collector = session_start(0)};

	scene.p = produce(scene.collector, getpid(), 1);
	announce(&scene.p);
	put_stack(&scene.p, 0, 1, RESERVE);
	put_stack(&scene.p, 0, 2, COMMIT);
	put_stack(&scene.p, 0, 3, AGAIN);
	put_alloc(&scene.p, 0, 1, TRACE_MMAP, 0x100000, 0x40000, 1,
		  TRACE_FLAG_ALWAYS | TRACE_FLAG_RESERVED);
	return scene;
}

static void put_commit(struct scene *scene, uint64_t time, uint64_t start, uint64_t length,
		       uint64_t stack)
{
	PUT(&scene->p, 0, TRACE_COMMIT | time << 8, start, length, stack);
}

static void put_return(struct scene *scene, uint64_t time, uint64_t start, uint64_t length,
		       uint64_t flags)
{
	PUT(&scene->p, 0, TRACE_RETURN | time << 8, start | flags << 56, length);
}

static double live(struct scene *scene)
{
	poll_all(scene->collector);
	CHECK_STATE(&scene->collector->processes[0]->state);
	return traced_of(scene->collector, 0).live_bytes;
}

/* The line that commits owns the memory; the rest stays reserved. */
static void test_a_part_is_committed(void)
{
	struct scene s = begin();

	CHECK(live(&s) == 0);
	put_commit(&s, 2, 0x108000, 0x10000, 2);
	CHECK(live(&s) == 0x10000);
	put_commit(&s, 3, 0x100000, 0x20000, 3); /* over what is committed already */
	CHECK(live(&s) == 0x20000);
	struct mematlas_total total = total_at(s.collector, 0, COMMIT, COMMITTED);
	CHECK(total.live_bytes == 0x10000 && total.live_count == 1 && total.allocations == 1);
	total = total_at(s.collector, 0, AGAIN, COMMITTED);
	CHECK(total.live_bytes == 0x10000 && total.live_count == 2);
	total = total_at(s.collector, 0, RESERVE, TRACE_MMAP);
	CHECK(total.live_bytes == 0 && total.live_count == 1);
	PUT(&s.p, 0, TRACE_UNMAP | 4 << 8, 0x100000, 0x40000);
	CHECK(live(&s) == 0);
	CHECK(traced_of(s.collector, 0).peak_bytes == 0x20000);
	session_end(s.collector);
}

/* Without access the pages stay, so the memory is live until they are dropped, too. */
static void test_closed_and_dropped(void)
{
	struct scene s = begin();

	put_commit(&s, 2, 0x100000, 0x40000, 2);
	put_return(&s, 3, 0x110000, 0x8000, TRACE_FLAG_CLOSED);
	CHECK(live(&s) == 0x40000);
	put_return(&s, 4, 0x100000, 0x10000, TRACE_FLAG_DROPPED); /* and accessible: not given up */
	CHECK(live(&s) == 0x40000);
	put_return(&s, 5, 0x114000, 0x20000, TRACE_FLAG_DROPPED); /* half of the closed part */
	CHECK(live(&s) == 0x3c000);
	put_commit(&s, 6, 0x110000, 0x8000, 3);
	CHECK(live(&s) == 0x40000);
	CHECK(total_at(s.collector, 0, AGAIN, COMMITTED).live_bytes == 0x4000);
	put_return(&s, 7, 0x100000, 0x40000, TRACE_FLAG_CLOSED | TRACE_FLAG_DROPPED);
	CHECK(live(&s) == 0);
	struct mematlas_total total = total_at(s.collector, 0, COMMIT, COMMITTED);
	CHECK(total.allocated_bytes == 0x40000 && total.freed_bytes == 0x40000);
	session_end(s.collector);
}

/* Memory that nobody reserved, an allocator's own and that of files are left alone. */
static void test_other_memory(void)
{
	struct scene s = begin();

	put_alloc(&s.p, 0, 2, TRACE_ARENA, 0x200000, 0x8000, 1, TRACE_FLAG_RESERVED);
	put_alloc(&s.p, 0, 3, TRACE_FILEMAP, 0x300000, 0x8000, 1, TRACE_FLAG_RESERVED);
	put_alloc(&s.p, 0, 4, TRACE_MMAP, 0x400000, 0x8000, 1, 0);
	put_commit(&s, 5, 0x200000, 0x800000, 2);
	CHECK(live(&s) == 0x8000);
	CHECK(total_at(s.collector, 0, COMMIT, COMMITTED).allocations == 0);
	put_return(&s, 6, 0x300000, 0x8000, TRACE_FLAG_CLOSED | TRACE_FLAG_DROPPED);
	put_commit(&s, 7, UINT64_MAX >> 16, UINT64_MAX, 2); /* beyond any address */
	put_return(&s, 8, 0x100000, UINT64_MAX, 3);
	CHECK(live(&s) == 0x8000);
	session_end(s.collector);
}

/* mremap() keeps what the memory was. */
static void test_moved(void)
{
	struct scene s = begin();

	PUT(&s.p, 0, TRACE_UNMAP | 2 << 8, 0x100000, 0x40000);
	put_alloc(&s.p, 0, 3, TRACE_MMAP, 0x500000, 0x80000, 2, TRACE_FLAG_MOVED);
	CHECK(live(&s) == 0);
	put_commit(&s, 4, 0x500000, 0x80000, 2);
	PUT(&s.p, 0, TRACE_UNMAP | 5 << 8, 0x500000, 0x80000);
	put_alloc(&s.p, 0, 6, TRACE_MMAP, 0x600000, 0x90000, 3, TRACE_FLAG_MOVED);
	CHECK(live(&s) == 0x90000);
	CHECK(total_at(s.collector, 0, AGAIN, COMMITTED).live_bytes == 0x90000);
	session_end(s.collector);
}

/* shmdt() names no length. */
static void test_a_whole_mapping_ends(void)
{
	struct scene s = begin();

	put_alloc(&s.p, 0, 2, TRACE_MMAP, 0x700000, 0x8000, 2, 0);
	put_alloc(&s.p, 0, 3, TRACE_MMAP, 0x708000, 0x8000, 2, 0);
	PUT(&s.p, 0, TRACE_UNMAP | 4 << 8, 0x702000, 0);
	CHECK(live(&s) == 0x10000);
	PUT(&s.p, 0, TRACE_UNMAP | 5 << 8, 0x700000, 0);
	CHECK(live(&s) == 0x8000);
	session_end(s.collector);
}

int main(void)
{
	test_a_part_is_committed();
	test_closed_and_dropped();
	test_other_memory();
	test_moved();
	test_a_whole_mapping_ends();
	return 0;
}
