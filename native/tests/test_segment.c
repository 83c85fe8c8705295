/* Segments of a long recording: what is live goes on, what has come and gone is forgotten. */
#define _GNU_SOURCE
#include <errno.h>

#include "producer.h"

#define FIRST_STACK 0x1000u

static const struct state *state_of(const struct mematlas_collector *collector)
{
	return &collector->processes[0]->state;
}

/* One block of a new stack after the other; each is freed after `keep` more. */
static void churn(struct producer *p, struct mematlas_collector *collector, unsigned from,
		  unsigned count, unsigned keep)
{
	for (unsigned i = from; i < from + count; i++) {
		uint64_t id = i % TRACE_MOST_IDS + 1;
		put_stack(p, 0, id, FIRST_STACK + 16 * i);
		put_alloc(p, 0, 2 * i + 10, TRACE_MALLOC, 0x100000 + 64ull * i, 10, id, 0);
		if (i >= keep)
			put_free(p, 0, 2 * i + 11, TRACE_MALLOC, 0x100000 + 64ull * (i - keep));
		if (i % 256 == 0)
			poll_all(collector);
	}
	poll_all(collector);
}

static void test_memory_is_bounded(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	uint32_t most = 0;

	announce(&p);
	poll_all(collector);
	for (unsigned part = 0; part < 12; part++) {
		churn(&p, collector, part * 20000, 20000, 100);
		CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
		CHECK_STATE(state_of(collector));
		CHECK(state_of(collector)->stats.count ==
		      101); /* and the last free, which may be undone */
		CHECK(state_of(collector)->live == 1000 && state_of(collector)->peak == 1000);
		if (state_of(collector)->trie.capacity > most && part > 2)
			most = state_of(collector)->trie.capacity;
		CHECK(state_of(collector)->trie.count <= TRACE_MOST_IDS + 101);
	}
	CHECK(most <= 4 * TRACE_MOST_IDS);
	CHECK(!collector->processes[0]->broken_rings);
	session_end(collector);
}

/* Stacks without end that all stay live: their bytes are whole, and count at a caller that is known. */
static void test_live_stacks_are_bounded(void)
{
	struct mematlas_collector *collector = session_start_limited(0, 1000);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	for (unsigned i = 0; i < 30000; i++) {
		PUT(&p, 0, TRACE_STACK | 5 << 8, i + 1, 2, FIRST_STACK + 16 * i, 0x10);
		put_alloc(&p, 0, i + 10, TRACE_MALLOC, 0x100000 + 64ull * i, 10, i + 1, 0);
		if (i % 256 == 0)
			poll_all(collector);
	}
	poll_all(collector);
	CHECK(state_of(collector)->trie.count == 1000 && state_of(collector)->stats.count <= 1000);
	CHECK(state_of(collector)->live == 300000);
	CHECK(traced_of(collector, 0).cut_stacks == 30000 - 998 && traced_of(collector, 0).has_cut);
	struct mematlas_total total = total_at(collector, 0, 0x10, TRACE_MALLOC);
	CHECK(total.live_count == 30000 - 998);
	for (unsigned i = 0; i < 30000; i++) {
		put_free(&p, 0, 40000 + i, TRACE_MALLOC, 0x100000 + 64ull * i);
		if (i % 256 == 0)
			poll_all(collector);
	}
	poll_all(collector);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	CHECK_STATE(state_of(collector));
	CHECK(state_of(collector)->live == 0 && state_of(collector)->stats.count <= 2);
	/* The trie has room again, but an ID that was cut counts at the caller in each segment. */
	CHECK(traced_of(collector, 0).cut_stacks == 0 && traced_of(collector, 0).has_cut);
	put_alloc(&p, 0, 80000, TRACE_MALLOC, 0x100000, 10, 30000, 0);
	poll_all(collector);
	CHECK(total_at(collector, 0, 0x10, TRACE_MALLOC).live_count == 1);
	CHECK(traced_of(collector, 0).cut_stacks == 0);
	CHECK(!collector->processes[0]->broken_rings);
	session_end(collector);
}

static void test_a_segment_counts_from_its_begin(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_total rows[16];

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_stack(&p, 0, 2, 0x2000);
	put_stack(&p, 0, 3, 0x3000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 500, 1, 0);
	put_alloc(&p, 0, 20, TRACE_MALLOC, 0x200000, 70, 2, 0);
	put_alloc(&p, 0, 30, TRACE_MMAP, 0x300000, 8192, 3, 0);
	put_free(&p, 0, 40, TRACE_MALLOC, 0x100000);
	poll_all(collector);
	CHECK(mematlas_collector_news(collector, 0, rows, 16) == 3);
	CHECK(mematlas_collector_news(collector, 0, rows, 16) == 0);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	CHECK_STATE(state_of(collector));
	CHECK(mematlas_collector_news(collector, 0, rows, 16) == 2); /* what is live is news */
	CHECK(mematlas_collector_news(collector, 0, rows, 16) == 0);
	struct mematlas_total total = total_at(collector, 0, 0x2000, TRACE_MALLOC);
	CHECK(total.live_bytes == 70 && total.allocated_bytes == 0 && total.peak_bytes == 70);

	put_alloc(&p, 0, 50, TRACE_MALLOC, 0x100000, 500, 1, 0); /* an ID defined before */
	put_free(&p, 0, 60, TRACE_MALLOC, 0x200000);
	put_free(&p, 0, 70, TRACE_MALLOC, 0x100000);
	PUT(&p, 0, TRACE_RESTORE | 80 << 8, 0x100000 | (uint64_t)TRACE_MALLOC << 48);
	poll_all(collector);
	CHECK_STATE(state_of(collector));
	CHECK(mematlas_collector_news(collector, 0, rows, 16) == 2);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MALLOC).allocated_bytes == 500);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MALLOC).live_bytes == 500);
	CHECK(total_at(collector, 0, 0x2000, TRACE_MALLOC).live_bytes == 0);
	CHECK(total_at(collector, 0, 0x2000, TRACE_MALLOC).freed_bytes == 70);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	CHECK(state_of(collector)->stats.count == 2);
	CHECK(mematlas_collector_begin_segment(collector, 1) == -ESRCH);
	session_end(collector);
}

/* A free, a segment, and the realloc that fails: the block is back. */
static void test_a_free_is_undone_in_the_next_segment(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 500, 1, 0);
	put_free(&p, 0, 20, TRACE_MALLOC, 0x100000);
	poll_all(collector);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	PUT(&p, 0, TRACE_RESTORE | 30 << 8, 0x100000 | (uint64_t)TRACE_MALLOC << 48);
	poll_all(collector);
	CHECK(total_at(collector, 0, 0x1000, TRACE_MALLOC).live_bytes == 500);
	session_end(collector);
}

/* Code objects come and go, too; code IDs are given again. */
static void test_code_is_forgotten(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_code code;

	announce(&p);
	for (uint64_t id = 1; id <= 20; id++) {
		PUT(&p, 0, TRACE_CODE | 8 << 8, id | 1ull << 32, TRACE_LINES_LOCATIONS, 1, 'a' + id,
		    0, 0, 0);
		PUT(&p, 0, TRACE_STACK | 4 << 8, id, TRACE_COUNTS(0, 1, 0, 0),
		    id << 32 | TRACE_PYTHON_ENTRY | 2);
		put_alloc(&p, 0, 10 * id, TRACE_MALLOC, 0x100000 + 64 * id, id, id, 0);
		if (id != 7)
			put_free(&p, 0, 10 * id + 1, TRACE_MALLOC, 0x100000 + 64 * id);
	}
	poll_all(collector);
	CHECK(state_of(collector)->codes.count == 20);
	/* All IDs are void after the first is given again. */
	PUT(&p, 0, TRACE_CODE | 8 << 8, 1 | 1ull << 32, TRACE_LINES_LOCATIONS, 1, 'z', 0, 0, 0);
	PUT(&p, 0, TRACE_STACK | 5 << 8, 1, TRACE_COUNTS(0, 2, 0, 0), 2ull << 32,
	    1ull << 32 | TRACE_PYTHON_ENTRY);
	for (uint64_t id = 2; id <= 20; id++)
		put_stack(&p, 0, id, 0x1000);
	put_alloc(&p, 0, 1000, TRACE_MALLOC, 0x200000, 99, 1, 0);
	poll_all(collector);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	CHECK_STATE(state_of(collector));
	CHECK(state_of(collector)->codes.count == 3);
	CHECK(mematlas_collector_code(collector, 0, 0, &code) == 0 && *code.name == 'a' + 7);
	CHECK(mematlas_collector_code(collector, 0, 1, &code) == 0 && *code.name == 'a' + 20);
	CHECK(mematlas_collector_code(collector, 0, 2, &code) == 0 && *code.name == 'z');
	for (uint32_t i = 0; i < state_of(collector)->stats.count; i++) {
		const struct stack_stats *stats = &state_of(collector)->stats.items[i];
		uint64_t word = state_of(collector)->trie.nodes[stats->node].word;
		/* The leaf of the second stack is of code 2, which was void. */
		CHECK((word >> 32 & 0x7fffffff) == (stats->live == 7    ? 1
						    : stats->live == 99 ? 0
									: 2));
	}
	session_end(collector);
}

/* Cells are fine in each segment, and births of before are told, too. */
static void test_ages_go_on(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	const struct mematlas_age_cell *rows;
	double cell_s;

	announce(&p);
	put_stack(&p, 0, 1, 0x1000);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x100000, 500, 1, 0);
	put_alloc(&p, 0, 10, TRACE_MALLOC, 0x200000, 70, 1, 0);
	poll_all(collector);
	usleep(20000);
	CHECK(mematlas_collector_begin_segment(collector, 0) == 0);
	struct age_matrix *matrix = &collector->processes[0]->state.age_matrix;
	CHECK(matrix->base > 0 && matrix->base >> matrix->coarse < 512);
	put_free(&p, 0, matrix->base + (1 << 20), TRACE_MALLOC, 0x100000);
	usleep(20000);
	poll_all(collector);
	if (collector->processes[0]->state.tick_s == 0) {
		session_end(collector);
		return; /* no clock */
	}
	int64_t count = mematlas_collector_age_matrix(collector, 0, &cell_s, &rows);
	CHECK(count == 2 && cell_s > 0);
	for (int64_t i = 0; i < count; i++) {
		CHECK(rows[i].born == 0);
		CHECK((rows[i].died == MEMATLAS_ALIVE) == (rows[i].bytes == 70));
		if (rows[i].bytes == 500)
			CHECK(rows[i].died == (matrix->base + (1 << 20)) >> matrix->shift);
	}
	session_end(collector);
}

int main(void)
{
	test_memory_is_bounded();
	test_live_stacks_are_bounded();
	test_a_segment_counts_from_its_begin();
	test_a_free_is_undone_in_the_next_segment();
	test_code_is_forgotten();
	test_ages_go_on();
	return 0;
}
