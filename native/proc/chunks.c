/* Walks a heap of glibc's malloc in another process, by the headers of its chunks.
 *
 * A chunk begins with the size of the one before it, if that is free, and its own size with three flag
 * bits. Whether it is free is said by the one after it. Its owner may change it while it is read: then
 * the walk leaves the heap, or does not end at its end, and is refused. */
#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "mematlas.h"
#include "page_size.h"

#define WINDOW 4096UL /* bytes read at once; divides every page size */
#define PREVIOUS_IN_USE 1UL
#define FLAGS 7UL
#define SMALLEST 0x20UL
#define LINKS 0x30UL /* header and list links of a free chunk: kept when its pages are given back */
#define FENCE 0x10UL /* marks the end of a heap that was followed by another */

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

/* What malloc_trim(3) gives back of a free chunk, as it rounds. */
static int64_t trimmable(int pagemap, uint64_t chunk, uint64_t size)
{
	uint64_t start = page_ceil(chunk + LINKS), end = page_floor(chunk + size);

	return start < end ? count_resident(pagemap, start, end) : 0;
}

/* The last chunk of the main heap: its end goes back by brk(2). That of others stays. */
static int64_t trimmable_top(int pagemap, uint64_t end, uint64_t size)
{
	uint64_t extra = size > SMALLEST ? page_floor(size - SMALLEST - 1) : 0;

	return count_resident(pagemap, end - extra, end);
}

static int take_free(int pagemap, uint64_t chunk, uint64_t size, struct mematlas_heap_walk *ret)
{
	int64_t resident = trimmable(pagemap, chunk, size);

	if (resident < 0)
		return (int)resident;
	ret->free += size;
	ret->trimmable += (uint64_t)resident;
	return 0;
}

static int take_top(int pagemap, uint64_t end, uint64_t size, bool main,
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

int mematlas_heap_walk(int memory, int pagemap, uint64_t first, uint64_t end, int main,
		       struct mematlas_heap_walk *ret)
{
	struct window window = {.memory = memory, .at = 1};
	uint64_t word, next;

	*ret = (struct mematlas_heap_walk){0};
	for (uint64_t chunk = first; chunk < end;) {
		uint64_t size;
		int error = read_word(&window, chunk + 8, &word);

		size = word & ~FLAGS;
		if (!error && size <= FENCE && chunk > first && end - chunk <= 4 * FENCE)
			return 0;
		if (error || size < SMALLEST || size % 16 || size > end - chunk)
			return -EUCLEAN;
		if (chunk + size == end)
			return take_top(pagemap, end, size, main, ret);
		error = read_word(&window, chunk + size + 8, &next);
		if (!error && !(next & PREVIOUS_IN_USE))
			error = take_free(pagemap, chunk, size, ret);
		else
			ret->in_use += size;
		if (error)
			return error;
		ret->chunks++;
		chunk += size;
	}
	return -EUCLEAN;
}
