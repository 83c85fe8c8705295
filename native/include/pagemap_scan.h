/* PAGEMAP_SCAN, struct pm_scan_arg and its categories, as in linux/fs.h since Linux 6.7. The
 * headers of the build may be older. */
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
	uint64_t vec; /* address of runs of three words: start, end, categories */
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};
_Static_assert(sizeof(struct pagemap_scan_argument) == 96, "the kernel's first version");

#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct pagemap_scan_argument)
#define PAGEMAP_IS_TRACKED (1u << 0) /* userfaultfd(2) tells of writes, by WP_ASYNC */
#define PAGEMAP_IS_WRITTEN (1u << 1) /* not write-protected by userfaultfd(2) since the last look */
#define PAGEMAP_IS_FILE (1u << 2) /* of a file or shared memory; not so once a private page is written */
#define PAGEMAP_IS_PRESENT (1u << 3)
#define PAGEMAP_IS_SWAPPED (1u << 4)
#define PAGEMAP_IS_ZERO (1u << 5)
#define PAGEMAP_IS_HUGE (1u << 6)
#define PAGEMAP_IS_GUARD (1u << 8)

#define PAGEMAP_WP_MATCHING 1u

#endif
