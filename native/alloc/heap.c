/* malloc of glibc: its statistics, and malloc_trim(3). */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mematlas.h"

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
