/* The kernel's files of one 64-bit word a page or a frame, and the words of pagemap. */
#ifndef MEMATLAS_PROC_TABLE_WORDS_H
#define MEMATLAS_PROC_TABLE_WORDS_H

#include <stdint.h>

#define ENTRY_PRESENT (1ULL << 63)
#define ENTRY_EXCLUSIVE (1ULL << 56) /* the only mapping of the page, since Linux 4.2 */
#define ENTRY_FRAME ((1ULL << 55) - 1)

/* 0 for pages that are not there, and where frame numbers are hidden. */
static inline uint64_t frame_of(uint64_t entry)
{
	return entry & ENTRY_PRESENT ? entry & ENTRY_FRAME : 0;
}

/* Returns the words read, fewer at the end of the file, or -errno. */
int64_t read_words(int fd, uint64_t first, uint64_t count, uint64_t *ret);

#endif
