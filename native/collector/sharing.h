/* Pages that other processes map, too. */
#ifndef MEMATLAS_COLLECTOR_SHARING_H
#define MEMATLAS_COLLECTOR_SHARING_H

#include "join.h"

/* Sums of one mapping, from smaps: shared <= rss; rss - shared <= pss <= rss;
 * pss == rss - shared + shared * share */
struct vma_sharing {
	uint64_t start, end;
	uint64_t rss, pss, shared, huge;
	uint64_t pages_shared; /* bytes of the pages that sharing_split() found shared */
	uint32_t processes; /* that share the pages; 0: PSS does not tell one number */
	float share;
};

/* In address order. */
struct sharing {
	struct vma_sharing *items;
	size_t count, capacity;
	bool has_zero_pages; /* in pages_shared: then the sums are those of smaps alone */
};

int sharing_read(int proc, struct sharing *ret);
void sharing_free(struct sharing *sharing);
/* RSS, PSS, USS and huge pages of all mappings, after sharing_split(). */
void sharing_sum(const struct sharing *sharing, struct mematlas_account *account);
/* Marks the pages of the runs that are shared. Unchanged on failure. */
int sharing_split(int proc, struct sharing *sharing, struct runs *runs);

#endif
