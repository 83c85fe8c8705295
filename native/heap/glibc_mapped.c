/* Chunks with a mapping of their own, and what malloc says of them. */
#include <string.h>

#include "glibc.h"

/* memalign leaves the header of the whole at the start and writes another where the aligned memory
 * begins: the size before it is how far, and both sizes add up. */
static bool is_inner(const struct heap_image *image, uint64_t start, uint64_t total,
		     uint64_t offset)
{
	const void *at = offset < total ? heap_at(image, start + offset, 16) : NULL;
	uint64_t words[2];

	if (!at)
		return false;
	memcpy(words, at, sizeof words);
	return words[0] == offset && words[1] == ((total - offset) | CHUNK_MAPPED);
}

static uint64_t find_inner(const struct heap_image *image, uint64_t start, uint64_t total)
{
	for (uint64_t align = 32; align && align <= total; align *= 2)
		for (uint64_t extra = 0; extra <= align; extra += align) {
			uint64_t user = ((start + CHUNK_HEADER + align - 1) & ~(align - 1)) + extra;

			if (user - start > CHUNK_HEADER &&
			    is_inner(image, start, total, user - start - CHUNK_HEADER))
				return user - start - CHUNK_HEADER;
		}
	return 0;
}

/* Bytes of the mapped chunk whose mapping begins at `start`; 0: none does. */
static uint64_t mapped_size(const struct heap_image *image, uint64_t start, uint64_t room)
{
	const void *at = heap_at(image, start, 16);
	uint64_t words[2], size;

	if (!at)
		return 0;
	memcpy(words, at, sizeof words);
	size = words[1] & ~CHUNK_FLAGS;
	if (words[0] || (words[1] & CHUNK_FLAGS) != CHUNK_MAPPED || !size || size > room ||
	    size % image->page_size)
		return 0;
	return size;
}

/* Where main_arena continues by mmap(2), mapped chunks are neighbours of its memory: there, they are gaps. */
static bool is_in_arena(const struct heap *heap, uint64_t start, uint64_t size)
{
	return heap_in_area(heap, start, MEMATLAS_HEAP_AREA_REGION) &&
	       !(heap_in_area(heap, start, MEMATLAS_HEAP_AREA_GAP) &&
		 heap_in_area(heap, start + size - 1, MEMATLAS_HEAP_AREA_GAP));
}

static int scan_range(struct heap *heap, const struct mematlas_heap_range *range,
		      struct mematlas_heap_glibc *sum)
{
	const struct heap_image *image = &heap->image;
	uint64_t page = image->page_size, end = range->start + range->size;
	uint64_t at = (range->start + page - 1) & ~(page - 1);
	int error = 0;

	while (!error && at < end) {
		uint64_t size = mapped_size(image, at, end - at), inner;

		if (!size || is_in_arena(heap, at, size)) {
			at += page;
			continue;
		}
		inner = find_inner(image, at, size);
		error = heap_add_block(heap, at + inner + CHUNK_HEADER, size - inner - CHUNK_HEADER,
				       MEMATLAS_HEAP_GLIBC_MMAPPED);
		sum->mapped += size;
		sum->mapped_chunks++;
		at += size;
	}
	return error;
}

int glibc_read_mapped(struct heap *heap, struct mematlas_heap_glibc *sum)
{
	int error = 0;

	/* The kernel may merge a mapping with the .bss of a library before it. */
	for (size_t i = 0; i < heap->image.count && !error; i++)
		if (heap->image.ranges[i].kind == MEMATLAS_HEAP_ANONYMOUS ||
		    heap->image.ranges[i].kind == MEMATLAS_HEAP_DATA)
			error = scan_range(heap, &heap->image.ranges[i], sum);
	return error;
}

static bool in_brk(const struct heap_image *image, uint64_t address)
{
	const struct mematlas_heap_range *range = heap_range(image, address);

	return range && range->kind == MEMATLAS_HEAP_BRK;
}

/* n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold */
static bool are_counts(const int32_t *counts, uint64_t mapped)
{
	return counts[0] >= 0 && counts[1] > 0 && counts[2] >= counts[0] && counts[3] >= 0 &&
	       counts[3] <= 1 && !counts[0] == !mapped;
}

/* mp_: the counts, mmapped_mem, max_mmapped_mem, sbrk_base; 2.35 and later have four bytes of padding
 * behind the counts. */
static bool is_parameters(const struct heap_image *image, const uint8_t *words, uint64_t *number)
{
	uint64_t mapped, most, base;
	int32_t counts[4];

	memcpy(&mapped, words, 8);
	memcpy(&most, words + 8, 8);
	memcpy(&base, words + 16, 8);
	if (mapped % image->page_size || most < mapped || base % 16 || !in_brk(image, base))
		return false;
	memcpy(counts, words - 16, sizeof counts);
	if (!are_counts(counts, mapped))
		memcpy(counts, words - 20, sizeof counts);
	*number = (uint64_t)counts[0];
	return are_counts(counts, mapped);
}

bool glibc_read_parameters(struct glibc *glibc)
{
	const struct mematlas_heap_range *data = glibc->data;
	uint64_t number, mapped;

	for (uint64_t at = 24; data->size >= 48 && at <= data->size - 24; at += 8) {
		if (!is_parameters(&glibc->heap->image, data->bytes + at, &number))
			continue;
		memcpy(&mapped, data->bytes + at, 8);
		glibc->sum->told_mapped_chunks = number;
		glibc->sum->told_mapped = mapped;
		return true;
	}
	return false;
}
