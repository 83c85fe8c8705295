/* mimalloc 3 has no segments. A map of two levels leads from each slice of 64 KiB to the page it belongs to. The
 * map is found by content: a page tells where its blocks begin, and so which entry of the map leads to it.
 * Source: types.h, page-map.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../cleanup.h"
#include "mimalloc.h"

#define ROOT (1ULL << 19) /* words of the first level */
#define ROOT_BYTES (ROOT * 8)
#define SUB (1ULL << 13) /* words of the second: each describes a slice */
#define SUB_BYTES (SUB * 8)
#define SLICE_SHIFT 16
#define MOST_PROBED (1ULL << 26) /* words of roots that were none, of a whole image */
#define PAGE_BYTES 96U /* of struct mi_page_s, what is read of it */
#define FLAGS 7ULL

/* Where struct mi_page_s has the first block, and keys of encoded lists. Debug and secure builds have keys. */
struct page_layout {
	bool offset; /* of 4 bytes, in words from the structure on; else an address */
	uint8_t keys; /* 0: none */
};
static const struct page_layout layouts[] = {
	{.offset = true},
	{.offset = true, .keys = 56},
	{.offset = false},
	{.offset = false, .keys = 56},
	{.offset = false, .keys = 64},
};
#define LAYOUTS (sizeof layouts / sizeof *layouts)

struct map {
	struct mimalloc *mimalloc;
	uint64_t root;
	const struct page_layout *layout;
	uint64_t *subs; /* index in the root, address; ascending */
	uint32_t sub_count, sub_capacity; /* words */
};

static uint64_t word(const uint8_t *page, uint32_t at)
{
	uint64_t value;

	memcpy(&value, page + at, sizeof value);
	return value;
}

static uint64_t first_block(const struct page_layout *layout, uint64_t address, const uint8_t *page)
{
	return layout->offset ? address + (uint32_t)word(page, 48) * 8ULL : word(page, 48);
}

/* free, used capacity reserved, local_free, xthread_free, block_size, first block */
static bool is_possible(const struct mimalloc_page *page, uint64_t slice, uint32_t reserved)
{
	return page->size >= 8 && page->size % 8 == 0 && page->size < 1ULL << 40 &&
	       page->start >= slice && page->start - slice < MIMALLOC_SLICE && page->capacity &&
	       page->capacity <= reserved && page->used <= page->capacity;
}

/* False: no page is there. *sound: its lists agree with its counts. */
static bool read_page(const struct map *map, uint64_t address, uint64_t slice,
		      struct mimalloc_page *ret, bool *sound)
{
	struct mimalloc *mimalloc = map->mimalloc;
	const uint8_t *page = heap_at(&mimalloc->heap->image, address, PAGE_BYTES);
	struct mimalloc_lists lists = {.encoded = map->layout->keys, .end = address};
	uint64_t counts;

	if (!page)
		return false;
	counts = word(page, 16);
	*ret = (struct mimalloc_page){.start = first_block(map->layout, address, page),
				      .size = word(page, 40),
				      .used = counts & 0xFFFF,
				      .capacity = counts >> 16 & 0xFFFF};
	if (!is_possible(ret, slice, counts >> 32 & 0xFFFF) || !mimalloc_in_image(mimalloc, ret))
		return false;
	lists.free = word(page, 8);
	lists.local = word(page, 24);
	lists.thread = word(page, 32) & ~FLAGS;
	if (map->layout->keys)
		memcpy(lists.keys, page + map->layout->keys, sizeof lists.keys);
	*sound = mimalloc_read_lists(mimalloc, &lists, ret);
	return true;
}

typedef int page_visitor(struct map *map, const struct mimalloc_page *page, uint64_t slice,
			 bool sound, void *to);

/* A page is listed at all its slices, and its blocks begin in the first one. */
static int each_page(struct map *map, page_visitor *visit, void *to)
{
	const struct heap_image *image = &map->mimalloc->heap->image;
	uint64_t end = 0;
	int error = 0;

	for (uint32_t sub = 0; sub < map->sub_count; sub += 2) {
		const uint8_t *entries = heap_at(image, map->subs[sub + 1], SUB_BYTES);

		for (uint64_t i = 0; entries && i < SUB && !error; i++) {
			uint64_t page = word(entries, (uint32_t)(i * 8));
			uint64_t slice = (map->subs[sub] * SUB + i) << SLICE_SHIFT;
			struct mimalloc_page found;
			bool sound;

			if (!page || page % 8 || slice < end ||
			    !read_page(map, page, slice, &found, &sound))
				continue;
			end = found.start + found.size * found.capacity;
			error = visit(map, &found, slice, sound, to);
		}
	}
	return error;
}

struct agreement {
	uint32_t yes, no;
};

static int judge(struct map *map, const struct mimalloc_page *page, uint64_t slice, bool sound,
		 void *to)
{
	struct agreement *found = to;

	(void)map;
	(void)slice;
	found->no += !sound;
	found->yes += sound && page->listed;
	return 0;
}

static bool recognise(struct map *map)
{
	const struct page_layout *best = NULL;
	uint32_t most = 0;

	for (size_t i = 0; i < LAYOUTS; i++) {
		struct agreement found = {0};

		map->layout = &layouts[i];
		each_page(map, judge, &found);
		if (found.yes <= most || found.no > found.yes / 4)
			continue;
		most = found.yes;
		best = map->layout;
	}
	map->layout = best;
	return best != NULL;
}

/* Lists the second level of a map. Tables do not overlap, or a made-up map would have no end. The first
 * level of builds with fewer bits of address is shorter: what follows it are no tables. */
static bool read_root(struct map *map, uint64_t root, const uint8_t *bytes, uint64_t words)
{
	CLEANUP_FREE struct heap_span *spans = NULL;

	map->sub_count = 0;
	for (uint64_t i = 1; i < words; i++) {
		uint64_t sub = word(bytes, (uint32_t)(i * 8));

		if (!sub)
			continue;
		if (sub % 8 || !heap_at(&map->mimalloc->heap->image, sub, SUB_BYTES) ||
		    !ARRAY_RESERVE(map->subs, map->sub_count, map->sub_capacity, 32))
			break;
		map->subs[map->sub_count++] = i;
		map->subs[map->sub_count++] = sub; /* the capacity is even */
	}
	spans = malloc((map->sub_count + 1ULL) * sizeof *spans);
	if (!spans || !map->sub_count)
		return false;
	for (uint32_t i = 0; i < map->sub_count; i += 2)
		spans[i / 2] = (struct heap_span){map->subs[i + 1], map->subs[i + 1] + SUB_BYTES};
	map->root = root;
	return heap_spans_are_disjoint(spans, map->sub_count / 2);
}

/* A cheap look: does the first table lead to a page whose blocks begin in the slice of its entry? */
static bool is_table(const struct map *map, uint64_t index, uint64_t sub, uint64_t *left)
{
	const struct heap_image *image = &map->mimalloc->heap->image;
	const uint8_t *entries = heap_at(image, sub, SUB_BYTES);

	for (uint64_t i = 0; entries && i < SUB && *left; i++, --*left) {
		uint64_t address = word(entries, (uint32_t)(i * 8));
		uint64_t slice = (index * SUB + i) << SLICE_SHIFT;
		const uint8_t *page;

		if (!address)
			continue;
		page = address % 8 ? NULL : heap_at(image, address, PAGE_BYTES);
		if (!page)
			return false;
		return first_block(&layouts[0], address, page) - slice < MIMALLOC_SLICE ||
		       first_block(&layouts[2], address, page) - slice < MIMALLOC_SLICE;
	}
	return false;
}

static bool is_root(const struct map *map, const uint8_t *bytes, uint64_t words, uint64_t *left)
{
	for (uint64_t i = 1; i < words && *left; i++, --*left) {
		uint64_t sub = word(bytes, (uint32_t)(i * 8));

		if (!sub)
			continue;
		if (sub % 8 || !is_table(map, i, sub, left))
			return false;
		*left -= words < *left ? words : *left; /* they are read next */
		return true;
	}
	return false;
}

static int note_span(struct map *map, const struct mimalloc_page *page, uint64_t slice, bool sound,
		     void *to)
{
	(void)sound;
	(void)to;
	return heap_note_span(&map->mimalloc->spans, slice,
			      page->start + page->size * page->capacity);
}

static int subdivide(struct map *map)
{
	int error;

	map->mimalloc->spans.count = 0;
	error = each_page(map, note_span, NULL);
	return error ? error : heap_subdivide_all(map->mimalloc->heap, &map->mimalloc->spans);
}

static int add(struct map *map, const struct mimalloc_page *page, uint64_t slice, bool sound,
	       void *to)
{
	struct mimalloc *mimalloc = map->mimalloc;
	uint64_t size = page->start + page->size * page->capacity - slice;

	(void)to;
	if (sound)
		return mimalloc_add_page(mimalloc, page);
	return heap_add_torn(mimalloc->heap, mimalloc->sum, MEMATLAS_HEAP_MIMALLOC, slice, size);
}

static int read_map(struct map *map)
{
	struct mimalloc *mimalloc = map->mimalloc;
	int error;

	mimalloc->sum->copies++;
	if (!recognise(map)) {
		mimalloc->sum->refused++;
		heap_finding(mimalloc->heap, MEMATLAS_HEAP_UNKNOWN_LAYOUT, map->root, 0,
			     MEMATLAS_HEAP_MIMALLOC);
		return 0;
	}
	error = subdivide(map);
	if (!error)
		error = heap_add_area(mimalloc->heap, map->root, map->root + ROOT_BYTES,
				      MEMATLAS_HEAP_AREA_REGION);
	return error ? error : each_page(map, add, NULL);
}

/* Reads the map that a word of a program's data leads to, if it does. */
static int try_root(struct map *map, uint64_t root, uint64_t *left)
{
	const struct mematlas_heap_range *target;
	const uint8_t *bytes;
	uint64_t words;

	/* A map is read once, though several variables may lead to it. */
	if (!root || root % 64 || root == map->root)
		return 0;
	target = heap_range(&map->mimalloc->heap->image, root);
	if (!target || target->kind == MEMATLAS_HEAP_CODE)
		return 0;
	bytes = target->bytes + (root - target->start);
	words = (target->size - (root - target->start)) / 8;
	words = words < ROOT ? words : ROOT;
	if (words <= SUB || !is_root(map, bytes, words, left) ||
	    !read_root(map, root, bytes, words))
		return 0;
	return read_map(map);
}

static int scan_range(struct map *map, const struct mematlas_heap_range *range, uint64_t *left)
{
	int error = 0;

	for (uint64_t at = -range->start % 8; at + 8 <= range->size && *left && !error &&
					      map->mimalloc->sum->copies < HEAP_MOST_COPIES;
	     at += 8) {
		uint64_t root;

		memcpy(&root, range->bytes + at, sizeof root);
		error = try_root(map, root, left);
	}
	return error;
}

int mimalloc_read_maps(struct mimalloc *mimalloc)
{
	struct map map = {.mimalloc = mimalloc};
	const struct heap_image *image = &mimalloc->heap->image;
	uint64_t left = MOST_PROBED;
	int error = 0;

	for (size_t i = 0; i < image->count && !error; i++)
		if (image->ranges[i].kind == MEMATLAS_HEAP_DATA)
			error = scan_range(&map, &image->ranges[i], &left);
	free(map.subs);
	return error;
}
