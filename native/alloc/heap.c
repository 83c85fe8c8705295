/* malloc of glibc: its statistics, and malloc_trim(3). */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

/* mallinfo2 is new in glibc 2.33. mallinfo counts in int, which wraps at 2 GiB. */
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)

int mematlas_heap_trim(void)
{
	return malloc_trim(0);
}

int mematlas_heap_describe(char *buffer, uint64_t size)
{
	FILE *stream = fmemopen(buffer, size, "w");

	if (stream == NULL)
		return -errno;
	int result = malloc_info(0, stream) ? -errno : 0;
	/* fclose flushes, and reports what did not fit. */
	if (fclose(stream) != 0 && result == 0)
		result = -errno;
	return result;
}

void mematlas_heap_read(struct mematlas_heap *heap)
{
	struct mallinfo2 info = mallinfo2();

	*heap = (struct mematlas_heap){
		.mapped_blocks = info.hblks,
		.mapped_bytes = info.hblkhd,
	};
}

#else

int mematlas_heap_trim(void)
{
	return -ENOSYS;
}

int mematlas_heap_describe(char *buffer, uint64_t size)
{
	(void)buffer;
	(void)size;
	return -ENOSYS;
}

void mematlas_heap_read(struct mematlas_heap *heap)
{
	*heap = (struct mematlas_heap){0};
}

#endif
