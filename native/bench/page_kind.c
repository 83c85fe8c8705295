#include "page_kind.h"

#include <fcntl.h>
#include <unistd.h>

#include "mematlas.h"
#include "pagemap_scan.h"

#define LEAST                                                                                      \
	(8u << 20) /* bytes: below, caches decide, and the question would cost more than it gains */
#define WINDOW (2u << 20) /* bytes in the middle */
#define RUNS 64u

static enum page_kind kind_of_window(int pagemap, uint64_t start, uint64_t end)
{
	struct mematlas_page_run runs[RUNS];
	uint64_t huge = 0, base = 0;
	int64_t found = mematlas_pagemap_scan(pagemap, &start, end, PAGEMAP_IS_PRESENT,
					      PAGEMAP_IS_PRESENT | PAGEMAP_IS_HUGE, runs, RUNS);

	for (int64_t i = 0; i < found; i++)
		*(runs[i].categories & PAGEMAP_IS_HUGE ? &huge : &base) +=
			runs[i].end - runs[i].start;
	if (!huge && !base)
		return KIND_UNKNOWN;
	return huge > base ? KIND_HUGE : KIND_BASE;
}

enum page_kind page_kind_of(const void *at, uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t middle = ((uintptr_t)at + bytes / 2) / page * page;

	if (bytes < LEAST)
		return KIND_UNKNOWN;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return KIND_UNKNOWN;
	enum page_kind kind = kind_of_window(pagemap, middle, middle + WINDOW);
	close(pagemap);
	return kind;
}
