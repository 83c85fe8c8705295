/* Copies resident pages of a process. Pages without memory are not touched: that would give the process page
 * tables for them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "../proc/page_size.h"
#include "image.h"
#include "pagemap_scan.h"

#define RUNS 1024u
#define PIECES 512u /* of one process_vm_readv(2) */
#define BATCH (64ull << 20) /* bytes of one, below the kernel's limit of 2 GiB */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_FILE (1ull << 61)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Pieces to be read, in both processes. bytes <= BATCH; count <= PIECES */
struct batch {
	int pid;
	unsigned count;
	uint64_t bytes, copied, unreadable;
	struct iovec ours[PIECES], theirs[PIECES];
};

int64_t mematlas_process_read(int pid, uint64_t address, void *ret, uint64_t size)
{
	uint64_t done = 0;

	while (done < size) {
		uint64_t part = size - done < BATCH ? size - done : BATCH;
		struct iovec ours = {(char *)ret + done, part},
			     theirs = {(void *)(uintptr_t)(address + done), part};
		ssize_t got = process_vm_readv(pid, &ours, 1, &theirs, 1, 0);
		if (got < 0 && errno != EFAULT && errno != EIO)
			return -errno;
		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	return (int64_t)done;
}

/* Drops `bytes` from the front of the pieces. */
static void advance(struct batch *batch, unsigned *first, uint64_t bytes)
{
	while (bytes && *first < batch->count) {
		struct iovec *ours = &batch->ours[*first], *theirs = &batch->theirs[*first];
		uint64_t part = bytes < ours->iov_len ? bytes : ours->iov_len;
		ours->iov_base = (char *)ours->iov_base + part;
		theirs->iov_base = (char *)theirs->iov_base + part;
		ours->iov_len -= part;
		theirs->iov_len -= part;
		bytes -= part;
		if (!ours->iov_len)
			++*first;
	}
}

/* Reads all pieces. A page that cannot be read, such as one of a device or a guard page, is left out. */
static int flush(struct batch *batch)
{
	unsigned first = 0;

	while (first < batch->count) {
		ssize_t got =
			process_vm_readv(batch->pid, &batch->ours[first], batch->count - first,
					 &batch->theirs[first], batch->count - first, 0);
		if (got < 0 && errno != EFAULT && errno != EIO)
			return -errno;
		if (got > 0) {
			batch->copied += (uint64_t)got;
			advance(batch, &first, (uint64_t)got);
		} else {
			uint64_t at = (uintptr_t)batch->theirs[first].iov_base;
			uint64_t next = page_floor(at) + page_bytes() - at;
			batch->unreadable++;
			advance(batch, &first,
				next < batch->theirs[first].iov_len ? next
								    : batch->theirs[first].iov_len);
		}
	}
	batch->count = 0;
	batch->bytes = 0;
	return 0;
}

static int add_piece(struct batch *batch, uint64_t from, void *to, uint64_t size)
{
	while (size) {
		uint64_t part = BATCH - batch->bytes < size ? BATCH - batch->bytes : size;
		batch->theirs[batch->count] = (struct iovec){(void *)(uintptr_t)from, part};
		batch->ours[batch->count++] = (struct iovec){to, part};
		batch->bytes += part;
		from += part;
		to = (char *)to + part;
		size -= part;
		int error = batch->count == PIECES || batch->bytes == BATCH ? flush(batch) : 0;
		if (error)
			return error;
	}
	return 0;
}

/* Before Linux 6.7: runs from the entries of pagemap. */
static int64_t read_entries(const struct mematlas_image *image, uint64_t *at, uint64_t end,
			    struct mematlas_page_run *runs)
{
	uint64_t entries[RUNS], page = page_bytes(), pages = (end - *at) / page;
	int64_t got =
		mematlas_pagemap_read(image->pagemap, *at, pages < RUNS ? pages : RUNS, entries);
	int64_t count = 0;

	for (int64_t i = 0; i < got; i++, *at += page) {
		uint64_t categories = (entries[i] & ENTRY_PRESENT ? PAGEMAP_IS_PRESENT : 0) |
				      (entries[i] & ENTRY_SWAPPED ? PAGEMAP_IS_SWAPPED : 0) |
				      (entries[i] & ENTRY_FILE ? PAGEMAP_IS_FILE : 0);
		if (categories & (PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED))
			runs[count++] = (struct mematlas_page_run){*at, *at + page, categories};
	}
	if (got <= 0)
		*at = end;
	return got < 0 ? got : count;
}

/* Whether a page is of a file costs the kernel a look at each page, twenty times the rest of the scan. */
static int64_t read_runs(struct mematlas_image *image, uint64_t *at, const struct part *part,
			 struct mematlas_page_run *runs)
{
	const uint64_t any = PAGEMAP_IS_PRESENT | PAGEMAP_IS_SWAPPED;
	const uint64_t want = any | PAGEMAP_IS_HUGE | PAGEMAP_IS_WRITTEN | PAGEMAP_IS_TRACKED |
			      (part->written_only ? PAGEMAP_IS_FILE : 0);
	uint64_t guard = image->knows_guards ? PAGEMAP_IS_GUARD : 0, from = *at;
	uint64_t end = page_ceil(part->end);
	int64_t got = mematlas_pagemap_scan(image->pagemap, at, end, any, want | guard, runs, RUNS);

	if (got == -EINVAL && guard) {
		image->knows_guards = false;
		*at = from;
		return read_runs(image, at, part, runs);
	}
	if (got == -ENOTTY || got == -EINVAL) {
		*at = from;
		return read_entries(image, at, end, runs);
	}
	return got;
}

int visit_pages(struct mematlas_image *image, const struct part *part, run_visitor *visit, void *to)
{
	struct mematlas_page_run runs[RUNS];
	uint64_t at = page_floor(part->start), end = page_ceil(part->end);
	int error = 0;

	while (!error && at < end) {
		int64_t got = read_runs(image, &at, part, runs);
		if (got < 0)
			return (int)got;
		for (int64_t i = 0; !error && i < got; i++) {
			uint64_t categories = runs[i].categories;
			if (!(categories & PAGEMAP_IS_GUARD) &&
			    !(part->written_only && categories & PAGEMAP_IS_FILE))
				error = visit(to, &runs[i]);
		}
	}
	return error;
}

struct copying {
	struct batch batch;
	struct segment *segment;
	uint64_t pages;
	uint8_t mark; /* PAGE_SEEN: the last pass, after which nothing changes */
};

/* The copy has the page as it is. Where writes are not tracked, nothing tells. */
static bool is_unchanged(const struct segment *segment, uint64_t categories)
{
	return segment->copied && (categories & PAGEMAP_IS_TRACKED) &&
	       !(categories & PAGEMAP_IS_WRITTEN);
}

static int copy_run(void *to, const struct mematlas_page_run *run)
{
	struct copying *copying = to;
	uint64_t offset = run->start - copying->segment->start, page = page_bytes();

	memset(copying->segment->pages + offset / page,
	       copying->mark | (run->categories & PAGEMAP_IS_PRESENT ? 1 : 2),
	       (run->end - run->start) / page);
	if (is_unchanged(copying->segment, run->categories))
		return 0;
	copying->pages += (run->end - run->start) / page;
	return add_piece(&copying->batch, run->start, copying->segment->bytes + offset,
			 run->end - run->start);
}

int copy_part(struct mematlas_image *image, const struct part *part, struct segment *segment)
{
	struct copying copying = {.segment = segment, .mark = PAGE_SEEN};

	copying.batch.pid = image->pid;
	int error = visit_pages(image, part, copy_run, &copying);
	if (!error)
		error = flush(&copying.batch);
	image->facts.copied_bytes += copying.batch.copied;
	image->facts.unreadable_pages += copying.batch.unreadable;
	return error;
}

int protect_and_copy(struct mematlas_image *image, const struct part *part, struct segment *segment,
		     uint64_t *pages)
{
	struct copying copying = {.segment = segment};
	struct mematlas_page_run runs[RUNS];
	uint64_t at = part->start;
	int error = 0;

	copying.batch.pid = image->pid;
	while (!error && at < part->end) {
		int64_t got = mematlas_pagemap_protect(image->pagemap, &at, part->end,
						       part->written_only, runs, RUNS);
		if (got < 0)
			return (int)got;
		for (int64_t i = 0; !error && i < got; i++)
			error = copy_run(&copying, &runs[i]);
	}
	if (!error)
		error = flush(&copying.batch);
	image->facts.copied_bytes += copying.batch.copied;
	*pages += copying.pages;
	return error;
}

void forget_unseen(struct segment *segment)
{
	uint64_t page = page_bytes(), count = segment->size / page;

	for (uint64_t i = 0; i < count; i++) {
		uint8_t known = segment->pages[i];
		if (known && !(known & PAGE_SEEN))
			memset(segment->bytes + i * page, 0, page);
		if (known)
			segment->pages[i] = known & PAGE_SEEN ? known & 3 : 0;
	}
}

static int populate_run(void *to, const struct mematlas_page_run *run)
{
	const struct segment *segment = to;

	/* A failure costs time later, no more. */
	madvise(segment->bytes + (run->start - segment->start), run->end - run->start,
		MADV_POPULATE_WRITE);
	return 0;
}

int populate_part(struct mematlas_image *image, const struct part *part, struct segment *segment)
{
	return visit_pages(image, part, populate_run, segment);
}
