/* Walks a heap of glibc's malloc in another process by the headers of its chunks.
 *
 * A chunk begins with the size of the previous chunk, if that is free, and its own size with three
 * flag bits. A flag of the next chunk says whether a chunk is free. The process may change the heap
 * during the walk. Then the walk leaves the heap, or misses its end, and fails. */
#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "mematlas.h"
#include "page_size.h"

#define WINDOW 4096UL /* bytes read at once; divides every page size */
#define PREVIOUS_IN_USE 1UL
#define FLAGS 7UL
#define SMALLEST 0x20UL
#define LINKS 0x30UL /* header and list links of a free chunk, which malloc_trim(3) keeps */
#define FENCE 0x10UL /* size of the chunks that end a heap when malloc continues elsewhere */

struct window {
	int memory;
	uint64_t at;
	uint64_t words[WINDOW / 8];
};

static int read_word(struct window *window, uint64_t address, uint64_t *ret)
{
	uint64_t start = address & ~(WINDOW - 1);

	if (start != window->at) {
		if (pread(window->memory, window->words, WINDOW, (off_t)start) != (ssize_t)WINDOW)
			return -EUCLEAN;
		window->at = start;
	}
	*ret = window->words[(address & (WINDOW - 1)) / 8];
	return 0;
}

static int64_t count_resident(int pagemap, uint64_t start, uint64_t end)
{
	const uint64_t page = page_bytes();
	int64_t resident = 0;

	while (start < end) {
		uint64_t entries[512], pages = (end - start) / page;
		ssize_t got;

		if (pages > 512)
			pages = 512;
		got = pread(pagemap, entries, pages * 8, (off_t)(start / page * 8));
		if (got <= 0)
			return got < 0 ? -errno : resident;
		for (ssize_t index = 0; index < got / 8; index++)
			resident += entries[index] >> 63 ? (int64_t)page : 0;
		start += (uint64_t)got / 8 * page;
	}
	return resident;
}

/* Resident bytes of a free chunk that malloc_trim(3) releases: whole pages behind its links. */
static int64_t trimmable(int pagemap, uint64_t chunk, uint64_t size)
{
	uint64_t start = page_ceil(chunk + LINKS), end = page_floor(chunk + size);

	return start < end ? count_resident(pagemap, start, end) : 0;
}

/* brk(2) releases the end of the top of the main heap. The tops of other heaps stay. */
static int64_t trimmable_top(int pagemap, uint64_t end, uint64_t size)
{
	uint64_t extra = size > SMALLEST ? page_floor(size - SMALLEST - 1) : 0;

	return count_resident(pagemap, end - extra, end);
}

static int add_free(int pagemap, uint64_t chunk, uint64_t size, struct mematlas_heap_walk *ret)
{
	int64_t resident = trimmable(pagemap, chunk, size);

	if (resident < 0)
		return (int)resident;
	ret->free += size;
	ret->trimmable += (uint64_t)resident;
	return 0;
}

static int add_top(int pagemap, uint64_t end, uint64_t size, bool main,
		   struct mematlas_heap_walk *ret)
{
	int64_t resident = main ? trimmable_top(pagemap, end, size) : 0;

	if (resident < 0)
		return (int)resident;
	ret->top = size;
	ret->free += size;
	ret->trimmable += (uint64_t)resident;
	return 0;
}

static int read_size(struct window *window, uint64_t chunk, uint64_t *ret)
{
	uint64_t word;
	int error = read_word(window, chunk + 8, &word);

	if (error)
		return error;
	*ret = word & ~FLAGS;
	return 0;
}

static bool is_fence(uint64_t size, uint64_t left)
{
	return size <= FENCE && left <= 4 * FENCE;
}

static bool is_chunk(uint64_t size, uint64_t left)
{
	return size >= SMALLEST && size % 16 == 0 && size <= left;
}

static int add_chunk(struct window *window, int pagemap, uint64_t chunk, uint64_t size,
		     struct mematlas_heap_walk *ret)
{
	uint64_t next;
	int error = read_word(window, chunk + size + 8, &next);

	if (!error && !(next & PREVIOUS_IN_USE))
		error = add_free(pagemap, chunk, size, ret);
	else
		ret->in_use += size;
	if (!error)
		ret->chunks++;
	return error;
}

int mematlas_heap_walk(int memory, int pagemap, uint64_t first, uint64_t end, int main,
		       struct mematlas_heap_walk *ret)
{
	struct window window = {.memory = memory, .at = 1};

	*ret = (struct mematlas_heap_walk){0};
	for (uint64_t chunk = first, size; chunk < end; chunk += size) {
		int error = read_size(&window, chunk, &size);

		if (!error && chunk > first && is_fence(size, end - chunk))
			return 0;
		if (error || !is_chunk(size, end - chunk))
			return -EUCLEAN;
		if (chunk + size == end)
			return add_top(pagemap, end, size, main, ret);
		error = add_chunk(&window, pagemap, chunk, size, ret);
		if (error)
			return error;
	}
	return -EUCLEAN;
}
