/* The base page size: 4, 16 or 64 KiB, by how the kernel was built. */
#ifndef MEMATLAS_PROC_PAGE_SIZE_H
#define MEMATLAS_PROC_PAGE_SIZE_H

#include <stdint.h>

uint64_t page_bytes(void); /* asked once */

/* Bytes that one entry of a page middle directory maps. A table of 8-byte entries fills one
 * page. */
static inline uint64_t pmd_bytes(void)
{
	return page_bytes() * (page_bytes() / 8);
}

static inline uint64_t page_floor(uint64_t address)
{
	return address & ~(page_bytes() - 1);
}

static inline uint64_t page_ceil(uint64_t address)
{
	return page_floor(address + page_bytes() - 1);
}

#endif
