/* Which pages are present or swapped, as runs: PAGEMAP_SCAN, or where the kernel has none, pagemap. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "join.h"

/* As in linux/fs.h since 6.7, which may be newer than the headers here. */
struct scan_region {
	uint64_t start, end, categories;
};
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define SCAN _IOWR('f', 16, struct scan)
#define IS_PRESENT (1u << 3)
#define IS_SWAPPED (1u << 4)
#define IS_ZERO (1u << 5)
#define IS_HUGE (1u << 6)
#define IS_GUARD (1u << 8)
#define WANTED (IS_PRESENT | IS_SWAPPED | IS_ZERO | IS_HUGE)
#define BATCH 16384u
#define USER_END 0x7ffffffff000ull

static bool add_run(struct runs *runs, uint64_t start, uint64_t end, uint32_t state)
{
	struct run *last = runs->count ? &runs->items[runs->count - 1] : NULL;

	if (state == 0)
		return true;
	if (last && last->end == start && last->state == state) {
		last->end = end;
		return true;
	}
	if (runs->count == runs->room) {
		size_t room = runs->room ? runs->room * 2 : 4096;
		struct run *items = realloc(runs->items, room * sizeof *items);
		if (!items)
			return false;
		runs->items = items;
		runs->room = room;
	}
	runs->items[runs->count++] = (struct run){start, end, state};
	return true;
}

/* The zero page is not in RSS, and a guard marker is not in swap. */
static uint32_t state_of(uint64_t categories)
{
	if (categories & IS_PRESENT && !(categories & IS_ZERO))
		return PAGES_RESIDENT | (categories & IS_HUGE ? PAGES_HUGE : 0);
	if (categories & IS_SWAPPED && !(categories & IS_GUARD))
		return PAGES_SWAPPED;
	return 0;
}

static int scan(struct mematlas_collector *collector, int fd, struct runs *runs)
{
	struct scan_region *regions = malloc(BATCH * sizeof *regions);
	uint64_t wanted = WANTED | IS_GUARD;
	struct scan request = {.size = sizeof request, .end = USER_END, .vec = (uintptr_t)regions};
	int error = regions ? 0 : -ENOMEM;

	request.vec_len = BATCH;
	request.anyof = IS_PRESENT | IS_SWAPPED;
	while (!error && request.start < USER_END) {
		request.returned = wanted;
		int got = ioctl(fd, SCAN, &request);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EINVAL && wanted & IS_GUARD) {
			wanted &= ~(uint64_t)IS_GUARD; /* unknown before 6.16 */
			continue;
		}
		if (got < 0) {
			error = -errno;
			break;
		}
		for (int i = 0; !error && i < got; i++)
			if (!add_run(runs, regions[i].start, regions[i].end,
				     state_of(regions[i].categories)))
				error = -ENOMEM;
		/* Not walk_end: after more than 512 regions the kernel may leave an old one there. */
		request.start = got < (int)BATCH ? USER_END : regions[got - 1].end;
		collector_beat(collector);
	}
	free(regions);
	return error;
}

bool page_is_huge(int pagemap, uint64_t address)
{
	uint64_t page = address & ~(uint64_t)(TRACE_PAGE - 1);
	struct scan_region region;
	struct scan request = {.size = sizeof request,
			       .start = page,
			       .end = page + TRACE_PAGE,
			       .vec = (uintptr_t)&region,
			       .vec_len = 1,
			       .mask = IS_HUGE,
			       .returned = IS_HUGE};

	return ioctl(pagemap, SCAN, &request) == 1;
}

static int read_vma(int fd, const struct vma *vma, uint64_t *entries, struct runs *runs)
{
	for (uint64_t at = vma->start; at < vma->end;) {
		uint64_t pages = (vma->end - at) / TRACE_PAGE;
		if (pages > BATCH)
			pages = BATCH;
		ssize_t got = pread(fd, entries, pages * 8, (off_t)(at / TRACE_PAGE * 8));
		if (got <= 0)
			return got < 0 ? -errno : 0;
		for (ssize_t i = 0; i < got / 8; i++, at += TRACE_PAGE) {
			uint32_t state = entries[i] >> 63       ? PAGES_RESIDENT
					 : entries[i] >> 62 & 1 ? PAGES_SWAPPED
								: 0;
			if (!add_run(runs, at, at + TRACE_PAGE, state))
				return -ENOMEM;
		}
	}
	return 0;
}

/* Slower, blind to huge pages, and the zero page looks like any other. */
static int read_pagemap(int fd, const struct vmas *vmas, struct runs *runs)
{
	uint64_t *entries = malloc(BATCH * sizeof *entries);
	int error = entries ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < vmas->count; i++)
		if (vmas->items[i].end <= USER_END)
			error = read_vma(fd, &vmas->items[i], entries, runs);
	free(entries);
	return error;
}

int runs_read(struct mematlas_collector *collector, int proc, const struct vmas *vmas,
	      struct runs *runs)
{
	int fd = openat(proc, "pagemap", O_RDONLY | O_CLOEXEC);

	*runs = (struct runs){0};
	if (fd < 0)
		return -errno;
	int error = scan(collector, fd, runs);
	if (error == -ENOTTY || error == -EINVAL) {
		runs->count = 0;
		error = read_pagemap(fd, vmas, runs);
	}
	close(fd);
	if (error) {
		free(runs->items);
		*runs = (struct runs){0};
	}
	return error;
}
