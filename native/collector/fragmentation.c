/* Attributes fragmentation: the free bytes of a partially used page go to the stacks whose live
 * blocks share the page; fully free pages are counted apart. Exact mode only, because a sample
 * leaves out most blocks of a page. */
#include <errno.h>

#include "sweep.h"

static void flush_page(struct join *join)
{
	struct page_usage *page = &join->page;
	double live = 0;

	for (uint32_t i = 0; i < page->blocks; i++)
		live += page->bytes[i];
	if (page->uncovered && live > 0) {
		join->pools[page->pool].held_free += page->uncovered;
		for (uint32_t i = 0; i < page->blocks; i++)
			join->process->state.stats.items[page->stats[i]].held_free +=
				page->uncovered * page->bytes[i] / live;
	} else if (page->uncovered == page_bytes()) {
		join->pools[page->pool].free_pages += page->uncovered;
	}
	page->blocks = page->uncovered = 0;
}

static void enter_page(struct join *join, enum pool pool, uint64_t number)
{
	if (join->page.number == number)
		return;
	flush_page(join);
	join->page.number = number;
	join->page.pool = pool;
}

static void add_block(struct join *join, uint32_t stats, uint64_t bytes)
{
	struct page_usage *page = &join->page;

	if (page->blocks && page->stats[page->blocks - 1] == stats) {
		page->bytes[page->blocks - 1] += (uint32_t)bytes;
		return;
	}
	if (page->blocks == PAGE_BLOCKS) /* only if blocks are smaller than MIN_BLOCK */
		return;
	page->stats[page->blocks] = stats;
	page->bytes[page->blocks++] = (uint32_t)bytes;
}

void fragmentation_add(struct join *join, enum pool pool, const struct span *block, uint64_t at,
		       uint64_t until)
{
	if (pool < POOL_HEAP || join->process->state.mean != 0)
		return;
	const uint64_t page = page_bytes();

	while (at < until) {
		uint64_t end = page_floor(at) + page;
		uint64_t full = at % page ? 0 : page_floor(until - at);
		if (full) { /* whole pages, all of one kind */
			flush_page(join);
			join->page.number = NO_PAGE;
			if (!block)
				join->pools[pool].free_pages += full;
			at += full;
			continue;
		}
		if (end > until)
			end = until;
		enter_page(join, pool, at / page);
		if (block)
			add_block(join, block->stats, end - at);
		else
			join->page.uncovered += (uint32_t)(end - at);
		at = end;
	}
}

void fragmentation_finish(struct join *join)
{
	flush_page(join);
	join->page.number = NO_PAGE;
}

int64_t mematlas_collector_fragmentation(struct mematlas_collector *collector, int index,
					 struct mematlas_stack_bytes *rows, uint64_t capacity)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	const struct stack_stats_table *table = &process->state.stats;
	uint64_t count = 0;
	for (uint32_t i = 0; i < table->count && count < capacity; i++)
		if (table->items[i].held_free > 0)
			rows[count++] = (struct mematlas_stack_bytes){table->items[i].node,
								      table->items[i].kind,
								      table->items[i].held_free};
	return (int64_t)count;
}
