/* Runs of present or swapped pages, by PAGEMAP_SCAN (Linux 6.7) or from pagemap. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "join.h"
#include "pagemap_scan.h"

#define WANTED                                                                                     \
	(PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED | PAGEMAP_IS_ZERO | PAGEMAP_IS_HUGE |             \
	 PAGEMAP_IS_FILE)
#define BATCH 16384u
#define USER_LIMIT (1ull << 56) /* of no processor; the vsyscall page of x86-64 is beyond */

static bool add_run(struct runs *runs, uint64_t start, uint64_t end, uint32_t state)
{
	struct run *last = runs->count ? &runs->items[runs->count - 1] : NULL;

	if (state == 0)
		return true;
	if (last && last->end == start && last->state == state) {
		last->end = end;
		return true;
	}
	if (!ARRAY_RESERVE(runs->items, runs->count, runs->capacity, 4096))
		return false;
	runs->items[runs->count++] = (struct run){start, end, state, 1, 1};
	return true;
}

/* The zero page does not count in RSS, and a guard marker is not in swap. */
static uint32_t state_of(uint64_t categories)
{
	if (categories & PAGEMAP_IS_PRESENT && !(categories & PAGEMAP_IS_ZERO))
		return PAGES_RESIDENT | (categories & PAGEMAP_IS_HUGE ? PAGES_HUGE : 0) |
		       (categories & PAGEMAP_IS_FILE ? PAGES_FILE : 0);
	if (categories & PAGEMAP_IS_SWAPPED && !(categories & PAGEMAP_IS_GUARD))
		return PAGES_SWAPPED;
	return 0;
}

/* The end of the last mapping. How many bits user addresses have depends on processor and kernel, and the
 * kernel refuses to scan beyond them. */
static uint64_t user_end(const struct vmas *vmas)
{
	size_t i = vmas->count;

	while (i > 0 && vmas->items[i - 1].end > USER_LIMIT)
		i--;
	return i ? vmas->items[i - 1].end : 0;
}

static int scan(struct mematlas_collector *collector, int fd, uint64_t end, struct runs *runs)
{
	CLEANUP_FREE struct mematlas_page_run *regions = malloc(BATCH * sizeof *regions);
	uint64_t start = 0, wanted = WANTED | PAGEMAP_IS_GUARD;
	int error = regions ? 0 : -ENOMEM;

	while (!error && start < end) {
		int64_t got = mematlas_pagemap_scan(fd, &start, end,
						    PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED, wanted,
						    regions, BATCH);
		if (got == -EINVAL && wanted & PAGEMAP_IS_GUARD) {
			wanted &= ~(uint64_t)PAGEMAP_IS_GUARD; /* added in Linux 6.16 */
			continue;
		}
		if (got < 0)
			error = (int)got;
		for (int64_t i = 0; !error && i < got; i++)
			if (!add_run(runs, regions[i].start, regions[i].end,
				     state_of(regions[i].categories)))
				error = -ENOMEM;
		collector_heartbeat(collector);
	}
	return error;
}

static int read_vma(int fd, const struct vma *vma, uint64_t *entries, struct runs *runs)
{
	const uint64_t page = page_bytes();

	for (uint64_t at = vma->start; at < vma->end;) {
		uint64_t pages = (vma->end - at) / page;
		if (pages > BATCH)
			pages = BATCH;
		ssize_t got = pread(fd, entries, pages * 8, (off_t)(at / page * 8));
		if (got <= 0)
			return got < 0 ? -errno : 0;
		for (ssize_t i = 0; i < got / 8; i++, at += page) {
			uint32_t file = entries[i] >> 61 & 1 ? PAGES_FILE : 0;
			uint32_t state = entries[i] >> 63       ? PAGES_RESIDENT | file
					 : entries[i] >> 62 & 1 ? PAGES_SWAPPED
								: 0;
			if (!add_run(runs, at, at + page, state))
				return -ENOMEM;
		}
	}
	return 0;
}

/* Slower; pagemap shows neither huge pages nor which page is the zero page. */
static int read_pagemap(int fd, const struct vmas *vmas, struct runs *runs)
{
	CLEANUP_FREE uint64_t *entries = malloc(BATCH * sizeof *entries);
	int error = entries ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < vmas->count; i++)
		if (vmas->items[i].end <= USER_LIMIT)
			error = read_vma(fd, &vmas->items[i], entries, runs);
	return error;
}

int runs_read(struct mematlas_collector *collector, int proc, const struct vmas *vmas,
	      struct runs *runs)
{
	CLEANUP_CLOSE int fd = openat(proc, "pagemap", O_RDONLY | O_CLOEXEC);

	*runs = (struct runs){0};
	if (fd < 0)
		return -errno;
	int error = scan(collector, fd, user_end(vmas), runs);
	if (error == -ENOTTY || error == -EINVAL) {
		runs->count = 0;
		runs->has_zero_pages = true;
		error = read_pagemap(fd, vmas, runs);
	}
	if (error) {
		free(runs->items);
		*runs = (struct runs){0};
	}
	return error;
}
