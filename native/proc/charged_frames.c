/* Which page frames are charged to some memory cgroups, and what they hold: kpagecgroup and kpageflags. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../cleanup.h"
#include "mematlas.h"
#include "page_size.h"
#include "table_words.h"

#define CHUNK 65536 /* frames a read */
#define WINDOW (64UL << 20) /* bytes of a file that are mapped at a time */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* since Linux 5.14 */
#endif

/* Bits of kpageflags: include/uapi/linux/kernel-page-flags.h. */
enum { LRU = 5, SLAB = 7, ANON = 12, SWAPBACKED = 14, PAGE_TABLE = 26 };

/* Inodes of cgroup directories, ascending. Frames of one group follow each other: `last` answers most
 * questions. */
struct groups {
	const uint64_t *inodes;
	uint64_t count;
	uint64_t last;
	bool last_is_in;
};

static bool holds(struct groups *groups, uint64_t inode)
{
	uint64_t low = 0, high = groups->count;

	if (inode == groups->last)
		return groups->last_is_in;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (groups->inodes[middle] < inode)
			low = middle + 1;
		else
			high = middle;
	}
	groups->last = inode;
	groups->last_is_in = low < groups->count && groups->inodes[low] == inode;
	return groups->last_is_in;
}

static void count_frame(uint64_t flags, struct mematlas_charged *ret)
{
	if (flags >> ANON & 1)
		ret->anonymous++;
	else if (flags >> SLAB & 1)
		ret->slab++;
	else if (flags >> PAGE_TABLE & 1)
		ret->page_tables++;
	else if (flags >> SWAPBACKED & 1)
		ret->shared++;
	else if (flags >> LRU & 1)
		ret->file++;
	else
		ret->other++;
}

/* Flags are read from the first to the last frame of the groups: most chunks have none. */
static int count_chunk(struct groups *groups, const uint64_t *inodes, uint64_t frames,
		       uint64_t first, int flags_fd, uint64_t *flags, struct mematlas_charged *ret)
{
	uint64_t low = frames, high = 0;
	int64_t got;

	for (uint64_t at = 0; at < frames; at++)
		if (holds(groups, inodes[at])) {
			low = at < low ? at : low;
			high = at;
		}
	if (low == frames)
		return 0;
	got = read_words(flags_fd, first + low, high - low + 1, flags);
	if (got < 0)
		return (int)got;
	for (uint64_t at = low; at < low + (uint64_t)got; at++)
		if (holds(groups, inodes[at]))
			count_frame(flags[at - low], ret);
	return 0;
}

/* Returns the number of frames that the machine has, or -errno. */
int64_t mematlas_charged_frames(int groups_fd, int flags_fd, const uint64_t *inodes, uint64_t count,
				struct mematlas_charged *ret)
{
	struct groups groups = {.inodes = inodes, .count = count};
	CLEANUP_FREE uint64_t *words = malloc(2 * CHUNK * sizeof(*words));
	uint64_t first = 0;

	memset(ret, 0, sizeof(*ret));
	if (!words)
		return -ENOMEM;
	for (;;) {
		int64_t got = read_words(groups_fd, first, CHUNK, words);
		int error;

		if (got <= 0)
			return got < 0 ? got : (int64_t)first;
		error = count_chunk(&groups, words, (uint64_t)got, first, flags_fd, words + CHUNK,
				    ret);
		if (error)
			return error;
		first += (uint64_t)got;
	}
}

struct file_window {
	unsigned char *at;
	uint64_t size;
	uint64_t pages;
	unsigned char *resident; /* a byte a page, from mincore(2) */
	uint64_t *entries; /* of our own pagemap */
	uint64_t *inodes; /* of their groups */
};

/* Only pages that the page cache has are mapped, so that none is read from the disk or, of a file in
 * memory, allocated. MADV_POPULATE_READ reports a page beyond a file that was cut meanwhile; a read would
 * end this process with SIGBUS. One that was evicted since mincore(2) is read from the disk. */
static int map_resident(struct file_window *window)
{
	const uint64_t page = page_bytes();
	uint64_t start = 0;

	if (mincore(window->at, window->size, window->resident) < 0)
		return -errno;
	while (start < window->pages) {
		uint64_t stop = start;

		while (stop < window->pages && window->resident[stop] & 1)
			stop++;
		if (stop > start &&
		    madvise(window->at + start * page, (stop - start) * page, MADV_POPULATE_READ) <
			    0 &&
		    errno != EFAULT && errno != EHWPOISON)
			return -errno;
		start = stop + 1;
	}
	return 0;
}

/* Pages from `first` on whose frames follow each other: they are read at once. */
static uint64_t run_of(const struct file_window *window, uint64_t first)
{
	uint64_t frame = frame_of(window->entries[first]), page = first + 1;

	while (page < window->pages && frame_of(window->entries[page]) == frame + page - first)
		page++;
	return page - first;
}

static int count_window(const struct file_window *window, struct groups *groups, int groups_fd,
			struct mematlas_file_charge *ret)
{
	uint64_t length;

	for (uint64_t page = 0; page < window->pages; page++)
		ret->cached += window->resident[page] & 1;
	for (uint64_t page = 0; page < window->pages; page += length) {
		uint64_t frame = frame_of(window->entries[page]);

		length = frame ? run_of(window, page) : 1;
		if (!frame)
			continue;
		if (read_words(groups_fd, frame, length, window->inodes) != (int64_t)length)
			return -EIO;
		ret->known += length;
		for (uint64_t at = 0; at < length; at++)
			ret->charged += holds(groups, window->inodes[at]);
	}
	return 0;
}

/* Without VM_RAND_READ the kernel would take our look for a use, and keep the pages longer:
 * vma_has_recency(), Linux 6.3. */
static int look_at_window(int fd, uint64_t offset, struct file_window *window,
			  struct groups *groups, const struct mematlas_charge_files *files,
			  struct mematlas_file_charge *ret)
{
	const uint64_t page = page_bytes();
	int64_t got;
	int error;

	window->pages = page_ceil(window->size) / page;
	/* Else a file of huge pages would be given pages of the pool, and keep them. */
	window->at =
		mmap(NULL, window->size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
	if (window->at == MAP_FAILED)
		return -errno;
	error = madvise(window->at, window->size, MADV_RANDOM) < 0 ? -errno : map_resident(window);
	if (!error) {
		got = read_words(files->pagemap, (uint64_t)(uintptr_t)window->at / page,
				 window->pages, window->entries);
		error = got == (int64_t)window->pages ? 0 : got < 0 ? (int)got : -EIO;
	}
	if (!error)
		error = count_window(window, groups, files->groups, ret);
	munmap(window->at, window->size);
	return error;
}

int mematlas_file_charge(int fd, uint64_t size, const struct mematlas_charge_files *files,
			 const uint64_t *inodes, uint64_t count, struct mematlas_file_charge *ret)
{
	const uint64_t pages = WINDOW / page_bytes();
	struct groups groups = {.inodes = inodes, .count = count};
	CLEANUP_FREE unsigned char *resident = malloc(pages);
	CLEANUP_FREE uint64_t *words = malloc(2 * pages * sizeof(*words));
	int error = resident && words ? 0 : -ENOMEM;

	memset(ret, 0, sizeof(*ret));
	for (uint64_t offset = 0; !error && offset < size; offset += WINDOW) {
		struct file_window window = {
			.size = size - offset < WINDOW ? size - offset : WINDOW,
			.resident = resident,
			.entries = words,
			.inodes = words + pages,
		};

		error = look_at_window(fd, offset, &window, &groups, files, ret);
	}
	return error;
}
