/* What keeps slack resident: pages on which a few live bytes lie beside free ones, by whose bytes they are,
 * and pages that are free as a whole. Of every event recorded only: sampled, most of what lies on a page is
 * not known. */
#include <errno.h>

#include "sweep.h"

static void flush_page(struct join *join)
{
	struct pinned_page *page = &join->page;
	double live = 0;

	for (uint32_t i = 0; i < page->blocks; i++)
		live += page->bytes[i];
	if (page->bare && live > 0) {
		join->tallies[page->pool].pinned += page->bare;
		for (uint32_t i = 0; i < page->blocks; i++)
			join->process->state.sums.items[page->sums[i]].pinned +=
				page->bare * page->bytes[i] / live;
	} else if (page->bare == page_bytes()) {
		join->tallies[page->pool].whole += page->bare;
	}
	page->blocks = page->bare = 0;
}

static void go_to(struct join *join, enum pool pool, uint64_t number)
{
	if (join->page.number == number)
		return;
	flush_page(join);
	join->page.number = number;
	join->page.pool = pool;
}

static void note_block(struct join *join, uint32_t sum, uint64_t bytes)
{
	struct pinned_page *page = &join->page;

	if (page->blocks && page->sums[page->blocks - 1] == sum) {
		page->bytes[page->blocks - 1] += (uint32_t)bytes;
		return;
	}
	if (page->blocks == PAGE_BLOCKS) /* blocks of fewer than 16 bytes: these pin the rest */
		return;
	page->sums[page->blocks] = sum;
	page->bytes[page->blocks++] = (uint32_t)bytes;
}

void pins_note(struct join *join, enum pool pool, const struct span *block, uint64_t at,
	       uint64_t until)
{
	if (pool < POOL_HEAP || join->process->state.mean != 0)
		return;
	const uint64_t page = page_bytes();

	while (at < until) {
		uint64_t end = page_floor(at) + page;
		uint64_t whole = at % page ? 0 : page_floor(until - at);
		if (whole) { /* of one kind, however many they are */
			flush_page(join);
			join->page.number = NO_PAGE;
			if (!block)
				join->tallies[pool].whole += whole;
			at += whole;
			continue;
		}
		if (end > until)
			end = until;
		go_to(join, pool, at / page);
		if (block)
			note_block(join, block->sum, end - at);
		else
			join->page.bare += (uint32_t)(end - at);
		at = end;
	}
}

void pins_end(struct join *join)
{
	flush_page(join);
	join->page.number = NO_PAGE;
}

int64_t mematlas_collector_pins(struct mematlas_collector *collector, int index,
				struct mematlas_pin *rows, uint64_t room)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	const struct sums *sums = &process->state.sums;
	uint64_t count = 0;
	for (uint32_t i = 0; i < sums->count && count < room; i++)
		if (sums->items[i].pinned > 0)
			rows[count++] = (struct mematlas_pin){
				sums->items[i].node, sums->items[i].kind, sums->items[i].pinned};
	return (int64_t)count;
}
