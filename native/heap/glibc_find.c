/* Arenas and their memory. An empty bin of main_arena points to itself, the ring of arenas closes:
 * no symbol and no version is asked. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "glibc.h"

#define MOST_ARENAS 65536
#define MOST_STEPS (1U << 26) /* along rings of arenas, of all candidates */
#define HEAP_STEP (1ULL << 20) /* every HEAP_MAX_SIZE is a multiple */

static bool add_arena(struct glibc *glibc, uint64_t address)
{
	struct glibc_arena arena = {.address = address};

	if (!ARRAY_RESERVE(glibc->arenas, glibc->arena_count, glibc->arena_capacity, 16))
		return false;
	if (!heap_word(&glibc->heap->image, address + STATE_TOP(glibc->bins), &arena.top))
		return false;
	glibc->arenas[glibc->arena_count++] = arena;
	return true;
}

/* Bins are lists with two ends: each end points into the image, and most often back. */
static bool is_state(const struct glibc *glibc, uint64_t state)
{
	const struct heap_image *image = &glibc->heap->image;
	uint64_t first, last, back;

	for (uint64_t bin = state + glibc->bins; bin < state + glibc->bins + 254 * 8; bin += 16) {
		if (!heap_word(image, bin, &first) || !heap_word(image, bin + 8, &last))
			return false;
		if ((first == bin - 16) != (last == bin - 16))
			return false;
		/* One torn list does not hide an arena, a wild pointer means that it is none. */
		if ((first % 16 && first != bin - 16) || !heap_word(image, first + 24, &back))
			return false;
	}
	return true;
}

static bool read_ring(struct glibc *glibc, uint64_t state, uint32_t bins)
{
	const struct heap_image *image = &glibc->heap->image;
	uint64_t at = state, next;

	glibc->bins = bins;
	glibc->arena_count = 0;
	/* A cheap look first: most candidates fail here. */
	if (!heap_word(image, state + STATE_NEXT(bins), &next) || !next || next % 8)
		return false;
	do {
		if (glibc->steps++ >= MOST_STEPS || !add_arena(glibc, at) ||
		    !heap_word(image, at + STATE_NEXT(bins), &at) || at % 8)
			return false;
	} while (at != state && glibc->arena_count < MOST_ARENAS);
	return is_state(glibc, state);
}

static bool find_state(struct glibc *glibc, uint64_t empty_bin)
{
	static const uint32_t heads[] = {112, STATE_WITHOUT_FASTBINS, 104};

	for (uint64_t bin = 0; bin < 127; bin++)
		for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
			if (read_ring(glibc, empty_bin - 16 * bin - heads[i], heads[i]))
				return true;
	return false;
}

static bool scan_range(struct glibc *glibc, const struct mematlas_heap_range *range,
		       uint64_t *offset)
{
	uint64_t words[2];

	for (; range->size >= 16 && *offset <= range->size - 16; *offset += 8) {
		uint64_t self = range->start + *offset - 16;

		memcpy(words, range->bytes + *offset, sizeof words);
		if (words[0] != self || words[1] != self || !find_state(glibc, self + 16))
			continue;
		glibc->data = range;
		/* The next copy of malloc comes behind this one. */
		*offset = glibc->arenas[0].address + STATE_SIZE(glibc->bins) - range->start;
		return true;
	}
	return false;
}

bool glibc_find_arenas(struct glibc *glibc, size_t *range, uint64_t *offset)
{
	const struct heap_image *image = &glibc->heap->image;

	for (; *range < image->count; ++*range, *offset = 0)
		if (image->ranges[*range].kind == MEMATLAS_HEAP_DATA &&
		    scan_range(glibc, &image->ranges[*range], offset))
			return true;
	return false;
}

/* Regions of different copies of malloc are disjoint, or a made-up heap would have its blocks many times. */
static int add_region(struct glibc *glibc, struct glibc_region region)
{
	uint64_t next = heap_next_area(glibc->heap, region.start, MEMATLAS_HEAP_AREA_REGION);

	if (heap_in_area(glibc->heap, region.start, MEMATLAS_HEAP_AREA_REGION))
		return 0;
	region.end = region.end < next ? region.end : next;
	if (!ARRAY_RESERVE(glibc->regions, glibc->region_count, glibc->region_capacity, 16))
		return -ENOMEM;
	glibc->regions[glibc->region_count++] = region;
	return 0;
}

static bool covered(const struct glibc *glibc, uint64_t address)
{
	for (uint32_t i = 0; i < glibc->region_count; i++)
		if (address - glibc->regions[i].start <
		    glibc->regions[i].end - glibc->regions[i].start)
			return true;
	return false;
}

static int by_address(const void *a, const void *b)
{
	const struct glibc_arena *left = a, *right = b;

	return left->address < right->address ? -1 : left->address > right->address;
}

/* A heap of another arena begins with struct heap_info: arena, previous heap, size, size made
 * accessible. */
static bool is_heap(const struct glibc *glibc, const uint64_t *info, uint64_t room)
{
	return info[0] != glibc->arenas[glibc->main].address && info[2] >= 0x1000 &&
	       info[2] <= info[3] && info[2] <= room && !(info[2] % 0x1000) &&
	       !(info[1] % HEAP_STEP);
}

static int add_heap(struct glibc *glibc, uint64_t start, uint64_t room)
{
	struct glibc_arena wanted;
	const struct glibc_arena *arena;
	const uint64_t *info = heap_at(&glibc->heap->image, start, 32);
	uint64_t words[4], first = start + 0x30;

	/* Ranges ascend, and so do heaps. */
	if (!info || (glibc->region_count && glibc->regions[glibc->region_count - 1].end > start))
		return 0;
	memcpy(words, info, sizeof words);
	wanted.address = words[0];
	arena = bsearch(&wanted, glibc->arenas, glibc->arena_count, sizeof wanted, by_address);
	if (!arena || !is_heap(glibc, words, room))
		return 0;
	if (arena->address - start < 0x100) /* the first heap holds the arena */
		first = (arena->address + STATE_SIZE(glibc->bins) + 15) & ~15ULL;
	glibc->sum->heaps++;
	return add_region(glibc, (struct glibc_region){.start = start,
						       .end = start + words[2],
						       .first = first,
						       .arena = (uint32_t)(arena - glibc->arenas)});
}

static int find_heaps(struct glibc *glibc)
{
	const struct heap_image *image = &glibc->heap->image;
	int error = 0;

	for (size_t i = 0; i < image->count && !error; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];
		uint64_t at = (range->start + HEAP_STEP - 1) & ~(HEAP_STEP - 1);

		if (range->kind != MEMATLAS_HEAP_ANONYMOUS && range->kind != MEMATLAS_HEAP_DATA)
			continue;
		for (; !error && at - range->start < range->size; at += HEAP_STEP)
			error = add_heap(glibc, at, range->size - (at - range->start));
	}
	return error;
}

static int add_range(struct glibc *glibc, const struct mematlas_heap_range *range)
{
	return add_region(glibc, (struct glibc_region){.start = range->start,
						       .end = range->start + range->size,
						       .first = range->start,
						       .arena = glibc->main});
}

/* main_arena continues by mmap where brk fails: its top or a free chunk lies elsewhere. */
static int add_anchor(struct glibc *glibc, uint64_t chunk)
{
	const struct mematlas_heap_range *range = heap_range(&glibc->heap->image, chunk);

	if (!range || range->kind != MEMATLAS_HEAP_ANONYMOUS || covered(glibc, chunk))
		return 0;
	glibc->sum->heaps++;
	return add_range(glibc, range);
}

static int add_brk(struct glibc *glibc)
{
	const struct heap_image *image = &glibc->heap->image;
	const struct mematlas_heap_range *top = heap_range(image, glibc->arenas[glibc->main].top);
	int error = 0;

	/* A second copy of malloc, loaded by dlmopen(3), does not use brk(2). */
	if (!glibc_read_parameters(glibc) && (!top || top->kind != MEMATLAS_HEAP_BRK))
		return 0;
	for (size_t i = 0; i < image->count && !error; i++)
		if (image->ranges[i].kind == MEMATLAS_HEAP_BRK) {
			glibc->sum->heaps++;
			error = add_range(glibc, &image->ranges[i]);
		}
	return error;
}

static int find_main(struct glibc *glibc)
{
	uint64_t bin = glibc->arenas[glibc->main].address + glibc->bins, chunk;
	int error = add_brk(glibc);

	if (!error)
		error = add_anchor(glibc, glibc->arenas[glibc->main].top);
	for (uint64_t end = bin + 254 * 8; !error && bin < end; bin += 8)
		if (heap_word(&glibc->heap->image, bin, &chunk))
			error = add_anchor(glibc, chunk);
	return error;
}

static int by_start(const void *a, const void *b)
{
	const struct glibc_region *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

int glibc_find_regions(struct glibc *glibc)
{
	uint64_t main = glibc->arenas[0].address;
	int error;

	qsort(glibc->arenas, glibc->arena_count, sizeof *glibc->arenas, by_address);
	while (glibc->arenas[glibc->main].address != main)
		glibc->main++;
	error = find_heaps(glibc);
	if (!error)
		error = find_main(glibc);
	if (!error && glibc->region_count)
		qsort(glibc->regions, glibc->region_count, sizeof *glibc->regions, by_start);
	return error;
}
