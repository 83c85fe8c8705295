/* PAGEMAP_SCAN, for the core and the tracer alike: as in linux/fs.h since 6.7, which may be newer than
 * the headers here. */
#ifndef PAGEMAP_SCAN_H
#define PAGEMAP_SCAN_H

#include <stdint.h>
#include <sys/ioctl.h>

struct pagemap_scan_argument {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t runs; /* address of runs of three words: start, end, categories */
	uint64_t room;
	uint64_t most_pages;
	uint64_t inverted;
	uint64_t all;
	uint64_t any;
	uint64_t want;
};

#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct pagemap_scan_argument)
#define PAGEMAP_IS_PRESENT (1u << 3)
#define PAGEMAP_IS_SWAPPED (1u << 4)
#define PAGEMAP_IS_ZERO (1u << 5)
#define PAGEMAP_IS_HUGE (1u << 6)
#define PAGEMAP_IS_GUARD (1u << 8)

#endif
