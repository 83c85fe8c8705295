/* Which pages of a file the page cache holds. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mematlas.h"
#include "page_size.h"

#define CACHESTAT 451 /* since Linux 6.5, on all architectures; older headers lack it */
#define WINDOW (1UL << 30)

int mematlas_cachestat(int fd, uint64_t offset, uint64_t length, struct mematlas_cachestat *ret)
{
	uint64_t range[2] = {offset, length};

	return syscall(CACHESTAT, fd, range, ret, 0) < 0 ? -errno : 0;
}

static int64_t count_window(int fd, uint64_t offset, uint64_t length, unsigned char *map)
{
	uint64_t pages = page_ceil(length) / page_bytes();
	void *at = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)offset);
	int64_t resident = 0;

	if (at == MAP_FAILED)
		return -errno;
	if (mincore(at, length, map) < 0)
		resident = -errno;
	munmap(at, length);
	for (uint64_t index = 0; resident >= 0 && index < pages; index++) {
		map[index] &= 1; /* the other bits are undefined */
		resident += map[index];
	}
	return resident;
}

int64_t mematlas_mincore_file(int fd, uint64_t length, unsigned char *ret)
{
	const uint64_t page = page_bytes();
	int64_t resident = 0;

	for (uint64_t offset = 0; offset < length; offset += WINDOW) {
		uint64_t size = length - offset < WINDOW ? length - offset : WINDOW;
		int64_t found = count_window(fd, offset, size, ret + offset / page);

		if (found < 0)
			return found;
		resident += found;
	}
	return resident;
}
