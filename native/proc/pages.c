/* pagemap, PAGEMAP_SCAN, and the join of frames with the kernel's tables of frames. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "mematlas.h"
#include "page_size.h"
#include "pagemap_scan.h"
#include "table_words.h"

#define MAX_FRAMES (1ULL << 36) /* 256 TiB of 4 KiB frames */

int64_t read_words(int fd, uint64_t first, uint64_t count, uint64_t *ret)
{
	uint64_t done = 0;

	while (done < count * 8) {
		ssize_t got =
			pread(fd, (char *)ret + done, count * 8 - done, (off_t)(first * 8 + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		done += (uint64_t)got;
	}
	return (int64_t)(done / 8);
}

/* One entry of eight bytes a page of the kernel. Without CAP_SYS_ADMIN the frame numbers are 0. */
int64_t mematlas_pagemap_read(int fd, uint64_t start, uint64_t count, uint64_t *ret)
{
	const uint64_t page = page_bytes();

	if (start % page)
		return -EINVAL;
	return read_words(fd, start / page, count, ret);
}

static int64_t scan(int fd, struct pagemap_scan_argument *argument, uint64_t *start)
{
	const struct mematlas_page_run *runs = (void *)(uintptr_t)argument->vec;
	int got;

	do {
		got = ioctl(fd, PAGEMAP_SCAN_CALL, argument);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	/* walk_end is not used, because after more than 512 runs the kernel may leave a stale value
	 * in it. */
	*start = (uint64_t)got < argument->vec_len ? argument->end : runs[got - 1].end;
	return got;
}

int64_t mematlas_pagemap_scan(int fd, uint64_t *start, uint64_t end, uint64_t any, uint64_t want,
			      struct mematlas_page_run *ret, uint64_t capacity)
{
	struct pagemap_scan_argument argument = {
		.size = sizeof(argument),
		.start = *start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)ret,
		.vec_len = capacity,
		.category_anyof_mask = any,
		.return_mask = want,
	};

	return scan(fd, &argument, start);
}

/* More categories are asked for than WRITTEN, since for that alone the kernel takes pages that were never
 * there too, and fills the page tables of the process for them. */
int64_t mematlas_pagemap_protect(int fd, uint64_t *start, uint64_t end, int anonymous,
				 struct mematlas_page_run *ret, uint64_t capacity)
{
	struct pagemap_scan_argument argument = {
		.size = sizeof(argument),
		.flags = PAGEMAP_WP_MATCHING,
		.start = *start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)ret,
		.vec_len = capacity,
		.category_inverted = anonymous ? PAGEMAP_IS_FILE : 0,
		.category_mask =
			PAGEMAP_IS_TRACKED | PAGEMAP_IS_WRITTEN | (anonymous ? PAGEMAP_IS_FILE : 0),
		.category_anyof_mask = PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED,
		.return_mask = PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED | PAGEMAP_IS_WRITTEN |
			       PAGEMAP_IS_TRACKED,
	};

	return scan(fd, &argument, start);
}

/* A bitmap of frames. A frame's rank, the number of frames below it, is the index of its value:
 * values are read in ascending runs, each frame once. Entries with a bit of `without` are left out.
 *
 * below[w] == number of bits in seen[0 .. w - 1]; distinct == number of all bits; frames < limit */
struct frames {
	uint64_t limit; /* frames that all tables have */
	uint64_t without;
	uint64_t words;
	uint64_t distinct;
	uint64_t *seen;
	uint32_t *below;
};

/* The size of a table can only be found by reading. Mapped device memory has frames beyond its
 * end. */
static uint64_t find_limit(int fd)
{
	uint64_t low = 0, high = MAX_FRAMES, word;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (read_words(fd, middle, 1, &word) == 1)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_counted(const struct frames *frames, uint64_t entry)
{
	return frame_of(entry) && (entry & ENTRY_FRAME) < frames->limit &&
	       !(entry & frames->without);
}

static uint64_t highest_frame(const struct frames *frames, const uint64_t *entries, uint64_t count)
{
	uint64_t top = 0;

	for (uint64_t at = 0; at < count; at++) {
		uint64_t frame = entries[at] & ENTRY_FRAME;

		if (is_counted(frames, entries[at]) && frame > top)
			top = frame;
	}
	return top;
}

/* -ENOMEM; the caller frees in either case. */
static int frames_collect(struct frames *frames, const uint64_t *entries, uint64_t count)
{
	frames->words = highest_frame(frames, entries, count) / 64 + 1;
	frames->seen = calloc(frames->words, sizeof(*frames->seen));
	frames->below = malloc(frames->words * sizeof(*frames->below));
	if (!frames->seen || !frames->below)
		return -ENOMEM;
	for (uint64_t at = 0; at < count; at++) {
		uint64_t frame = entries[at] & ENTRY_FRAME;

		if (is_counted(frames, entries[at]))
			frames->seen[frame / 64] |= 1ULL << frame % 64;
	}
	for (uint64_t word = 0; word < frames->words; word++) {
		frames->below[word] = (uint32_t)frames->distinct;
		frames->distinct += (uint64_t)__builtin_popcountll(frames->seen[word]);
	}
	return 0;
}

static void frames_free(struct frames *frames)
{
	free(frames->seen);
	free(frames->below);
}

/* The first frame from `from` on whose bit is set, or with `invert` all ones not set; the end of
 * the bitmap if there is none. */
static uint64_t next_bit(const struct frames *frames, uint64_t from, uint64_t invert)
{
	uint64_t word = from / 64, bits;

	if (word >= frames->words)
		return frames->words * 64;
	bits = (frames->seen[word] ^ invert) & (~0ULL << from % 64);
	while (!bits && ++word < frames->words)
		bits = frames->seen[word] ^ invert;
	return bits ? word * 64 + (uint64_t)__builtin_ctzll(bits) : frames->words * 64;
}

/* `values` gets one value for each frame in the bitmap, in ascending order. Frames whose table
 * ended meanwhile are ABSENT. */
static int read_runs(const struct frames *frames, int fd, uint64_t *values)
{
	uint64_t end = frames->words * 64, start = next_bit(frames, 0, 0);

	while (start < end) {
		uint64_t stop = next_bit(frames, start, ~0ULL);
		int64_t got = read_words(fd, start, stop - start, values);

		if (got < 0)
			return (int)got;
		for (uint64_t at = (uint64_t)got; at < stop - start; at++)
			values[at] = MEMATLAS_MAPS_ABSENT;
		values += stop - start;
		start = next_bit(frames, stop, 0);
	}
	return 0;
}

/* 0: no frame; ABSENT: a frame without an entry in the table; 1: one that is left out, as mapped once. */
static uint64_t look_up(const struct frames *frames, const uint64_t *values, uint64_t entry)
{
	uint64_t frame = entry & ENTRY_FRAME, below;

	if (!frame_of(entry))
		return 0;
	if (frame >= frames->limit)
		return MEMATLAS_MAPS_ABSENT;
	if (entry & frames->without)
		return 1;
	below = frames->seen[frame / 64] & ((1ULL << frame % 64) - 1);
	return values[frames->below[frame / 64] + (uint64_t)__builtin_popcountll(below)];
}

static int join_table(const struct frames *frames, const uint64_t *entries, uint64_t count, int fd,
		      uint64_t *values, uint64_t *ret)
{
	int error = read_runs(frames, fd, values);

	for (uint64_t at = 0; !error && at < count; at++)
		ret[at] = look_up(frames, values, entries[at]);
	return error;
}

/* The kernel sets the bit of an only mapping from the number that kpagecount has, so that frames with
 * the bit are not read. A program that shares no memory has few others. */
static int join_counts(uint64_t limit, const uint64_t *entries, uint64_t count, int fd,
		       uint64_t *values, uint64_t *ret)
{
	CLEANUP(frames_free)
	struct frames shared = {.limit = limit, .without = ENTRY_EXCLUSIVE};
	int error = frames_collect(&shared, entries, count);

	return error ? error : join_table(&shared, entries, count, fd, values, ret);
}

/* Tables may differ in length. A descriptor below 0 stands for a table that is not asked for. */
static uint64_t common_limit(const int *tables, int table_count)
{
	uint64_t limit = MAX_FRAMES;

	for (int table = 0; table < table_count; table++) {
		uint64_t own = tables[table] < 0 ? limit : find_limit(tables[table]);

		limit = own < limit ? own : limit;
	}
	return limit;
}

/* ret[table][i] is the value of entries[i] in that table. Reads each frame once, however many
 * pages map it. Returns the number of distinct frames. */
int64_t mematlas_frames_join(const uint64_t *entries, uint64_t count, const int *tables,
			     uint64_t *const *ret, int table_count, int count_table)
{
	CLEANUP(frames_free) struct frames frames = {.limit = common_limit(tables, table_count)};
	int error = frames_collect(&frames, entries, count);

	if (error)
		return error;
	CLEANUP_FREE uint64_t *values = malloc((frames.distinct + 1) * sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (int table = 0; !error && table < table_count; table++)
		if (tables[table] >= 0 && table == count_table)
			error = join_counts(frames.limit, entries, count, tables[table], values,
					    ret[table]);
		else if (tables[table] >= 0)
			error = join_table(&frames, entries, count, tables[table], values,
					   ret[table]);
	return error ? error : (int64_t)frames.distinct;
}
