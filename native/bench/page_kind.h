/* The pages of an array, which decide how far ahead the CPU may read. */
#ifndef MEMATLAS_BENCH_PAGE_KIND_H
#define MEMATLAS_BENCH_PAGE_KIND_H

#include <stdint.h>

/* KIND_UNKNOWN: the array is small, has no pages yet, or the kernel does not tell (before 6.7). */
enum page_kind { KIND_UNKNOWN, KIND_BASE, KIND_HUGE };

/* The kind of most pages in the middle of an array. */
enum page_kind page_kind_of(const void *at, uint64_t bytes);

#endif
