/* Pages of mimalloc: their blocks less those in the three lists of free blocks. */
#include <string.h>

#include "mimalloc.h"

#define CAPACITY_AT 10U
#define RESERVED_AT 12U
#define FREE_AT 16U
#define TAG_AT 8U
#define TAG_SHIFT 3 /* 0: memory without heads; above: objects */
#define FLAG_BITS 3ULL /* of the list of other threads */

#define EARLY .used = 24, .used_bytes = 4, .size = 28, .size_bytes = 4, .local_free = 32
#define LATE .used = 32, .used_bytes = 2, .size = 40, .size_bytes = 8, .start = 48, .local_free = 24

/* Those with keys are of debug and secure builds, or such that check the ends of blocks. */
const struct mimalloc_layout mimalloc_layouts[MIMALLOC_LAYOUTS] = {
	/* 2.0 */
	{.entry = 80, EARLY, .thread_free = 40, .heap = 48, .shift = MIMALLOC_FIXED_SHIFT},
	{.entry = 96,
	 EARLY,
	 .keys = 40,
	 .thread_free = 56,
	 .heap = 64,
	 .shift = MIMALLOC_FIXED_SHIFT},
	/* 2.1.0 to 2.1.2; CPython */
	{.entry = 80, EARLY, .thread_free = 40, .heap = 48, .shift = MIMALLOC_BLOCK_SHIFT},
	{.entry = 96,
	 EARLY,
	 .keys = 40,
	 .thread_free = 56,
	 .heap = 64,
	 .shift = MIMALLOC_BLOCK_SHIFT},
	/* CPython without the GIL */
	{.entry = 96,
	 EARLY,
	 .tagged = true,
	 .thread_free = 40,
	 .heap = 48,
	 .shift = MIMALLOC_BLOCK_SHIFT},
	{.entry = 112,
	 EARLY,
	 .tagged = true,
	 .keys = 40,
	 .thread_free = 56,
	 .heap = 64,
	 .shift = MIMALLOC_BLOCK_SHIFT},
	/* 2.1.4 to 2.4 */
	{.entry = 96, LATE, .thread_free = 56, .heap = 64},
	{.entry = 112, LATE, .thread_free = 72, .heap = 80},
	{.entry = 112, LATE, .keys = 56, .thread_free = 72, .heap = 80},
};

static uint64_t field(const uint8_t *entry, uint32_t at, uint32_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, entry + at, bytes);
	return value;
}

static const uint8_t *entry_at(const struct mimalloc *mimalloc,
			       const struct mimalloc_segment *segment, uint32_t slice)
{
	uint32_t bytes = mimalloc_layouts[segment->layout].entry;

	return heap_at(&mimalloc->heap->image,
		       segment->address + segment->slices + (uint64_t)slice * bytes, bytes);
}

uint32_t mimalloc_slice_count(const struct mimalloc *mimalloc,
			      const struct mimalloc_segment *segment, uint32_t slice)
{
	const uint8_t *entry = entry_at(mimalloc, segment, slice), *last;
	uint32_t bytes = mimalloc_layouts[segment->layout].entry, count;

	if (!entry)
		return 0;
	count = (uint32_t)field(entry, 0, 4);
	if (!count || field(entry, 4, 4) || count > segment->size / MIMALLOC_SLICE - slice)
		return 0;
	if (count == 1 || slice + count > segment->entries)
		return count;
	last = entry_at(mimalloc, segment, slice + count - 1);
	return last && field(last, 4, 4) == (uint64_t)bytes * (count - 1) ? count : 0;
}

static uint64_t first_shift(const struct mimalloc_layout *layout, uint64_t size)
{
	if (layout->shift == MIMALLOC_FIXED_SHIFT)
		return size >= 8 && size <= 1024 ? 384 : 0;
	if (size < 8 || size > 512)
		return 0;
	return size <= 64 ? 3 * size : size;
}

/* mi_ptr_decode() of internal.h */
bool mimalloc_next(const struct heap_image *image, uint64_t at, const uint64_t *keys, uint64_t end,
		   uint64_t *ret)
{
	uint64_t word;
	unsigned turn;

	if (!heap_word(image, at, &word))
		return false;
	if (keys) {
		turn = keys[0] & 63;
		word -= keys[0];
		word = (turn ? word >> turn | word << (64 - turn) : word) ^ keys[1];
		word = word == end ? 0 : word;
	}
	*ret = word;
	return true;
}

bool mimalloc_in_image(const struct mimalloc *mimalloc, const struct mimalloc_page *page)
{
	const struct heap_image *image = &mimalloc->heap->image;

	return page->capacity == 1
		       ? heap_range(image, page->start) != NULL
		       : heap_at(image, page->start, page->capacity * page->size) != NULL;
}

/* Marks the blocks of a list as free. False: the list leaves the page, or has a block twice. */
static bool read_list(struct mimalloc *mimalloc, const struct mimalloc_page *page,
		      const struct mimalloc_lists *lists, uint64_t at, uint32_t *count)
{
	*count = 0;
	while (at) {
		uint64_t offset = at - page->start, number = offset / page->size;

		if (at < page->start || number >= page->capacity || offset % page->size ||
		    !mimalloc->live[number] ||
		    !mimalloc_next(&mimalloc->heap->image, at, lists->encoded ? lists->keys : NULL,
				   lists->end, &at))
			return false;
		mimalloc->live[number] = 0;
		++*count;
	}
	return true;
}

bool mimalloc_read_lists(struct mimalloc *mimalloc, const struct mimalloc_lists *lists,
			 struct mimalloc_page *page)
{
	uint32_t free, local, thread;

	memset(mimalloc->live, 1, page->capacity);
	if (!read_list(mimalloc, page, lists, lists->free, &free) ||
	    !read_list(mimalloc, page, lists, lists->local, &local) ||
	    !read_list(mimalloc, page, lists, lists->thread, &thread))
		return false;
	page->listed = free + local + thread;
	page->thread_freed = thread;
	return page->used == page->capacity - free - local && thread <= page->used;
}

static struct mimalloc_lists lists_of(const uint8_t *entry, uint64_t address,
				      const struct mimalloc_layout *layout)
{
	struct mimalloc_lists lists = {
		.free = field(entry, FREE_AT, 8),
		.local = field(entry, layout->local_free, 8),
		.thread = field(entry, layout->thread_free, 8) & ~FLAG_BITS,
		.encoded = layout->keys,
		.end = address,
	};

	if (layout->keys)
		memcpy(lists.keys, entry + layout->keys, sizeof lists.keys);
	return lists;
}

static bool holds_objects(const struct mimalloc_layout *layout, const uint8_t *entry)
{
	return layout->tagged && field(entry, TAG_AT, 1) >> TAG_SHIFT & 15;
}

/* Does the page lie in its slices, and are its counts possible? */
static bool is_possible(const struct mimalloc_page *page, uint64_t slices, uint64_t room,
			uint64_t reserved)
{
	uint64_t before = page->start - slices;

	return page->size % 8 == 0 && page->start >= slices && before < room &&
	       page->capacity <= (room - before) / page->size && page->capacity <= reserved &&
	       page->used <= page->capacity;
}

bool mimalloc_read_page(struct mimalloc *mimalloc, const struct mimalloc_segment *segment,
			uint32_t slice, struct mimalloc_page *ret, bool *sound)
{
	const struct mimalloc_layout *layout = &mimalloc_layouts[segment->layout];
	const uint8_t *entry = entry_at(mimalloc, segment, slice);
	uint64_t slices = segment->address + slice * MIMALLOC_SLICE, room;
	struct mimalloc_lists lists;

	if (!entry)
		return false;
	room = mimalloc_slice_count(mimalloc, segment, slice) * MIMALLOC_SLICE;
	*ret = (struct mimalloc_page){
		.size = field(entry, layout->size, layout->size_bytes),
		.heap = field(entry, layout->heap, 8),
		.capacity = (uint32_t)field(entry, CAPACITY_AT, 2),
		.objects = holds_objects(layout, entry),
		.used = (uint32_t)field(entry, layout->used, layout->used_bytes),
	};
	if (!ret->size || !room || !ret->capacity)
		return false;
	if (layout->size_bytes == 4 && ret->size >= MIMALLOC_HUGE_SIZE)
		ret->size = room;
	ret->start = layout->start ? field(entry, layout->start, 8)
				   : slices + first_shift(layout, ret->size);
	lists = lists_of(entry,
			 segment->address + segment->slices + (uint64_t)slice * layout->entry,
			 layout);
	*sound = is_possible(ret, slices, room, field(entry, RESERVED_AT, 2)) &&
		 mimalloc_in_image(mimalloc, ret) && mimalloc_read_lists(mimalloc, &lists, ret);
	return true;
}
