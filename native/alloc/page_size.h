/* Page sizes of the running kernel, in bytes. */
#ifndef MEMATLAS_ALLOC_PAGE_SIZE_H
#define MEMATLAS_ALLOC_PAGE_SIZE_H

#include <stdint.h>

/* 4096 on x86-64; 4096, 16384 or 65536 on aarch64. */
uint64_t page_size_base(void);

/* Size of a PMD-mapped transparent huge page: 2 MiB with base pages of 4 KiB, 32 MiB with 16 KiB,
 * 512 MiB with 64 KiB. Read from the kernel once, and computed from the base page size where the
 * kernel has no transparent huge pages. */
uint64_t page_size_pmd(void);

#endif
