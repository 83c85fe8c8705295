/* The residency join: which mapping, page run and block every resident byte belongs to. */
#ifndef MEMATLAS_COLLECTOR_JOIN_H
#define MEMATLAS_COLLECTOR_JOIN_H

#include "collector.h"

struct vma {
	uint64_t start, end;
	uint64_t file_offset, inode;
	char permissions[5];
	bool no_pages; /* what lies here is not counted in RSS: device memory, hugetlb, vvar */
	const char *name; /* in the text; "" if none */
};

struct vmas {
	char *text;
	struct vma *items;
	size_t count, room;
};

enum page_state {
	PAGES_RESIDENT = 1,
	PAGES_SWAPPED = 2,
	PAGES_HUGE = 4 /* mapped by a PMD */
};

struct run {
	uint64_t start, end;
	uint32_t state;
};

struct runs {
	struct run *items;
	size_t count, room;
};

/* vmas.c: all mappings, from maps, or from smaps where only that tells which hold no pages. */
int vmas_read(int proc, struct vmas *vmas);
void vmas_free(struct vmas *vmas);
int64_t rollup_read(int proc,
		    int64_t *huge); /* Rss of smaps_rollup, and what is mapped by PMDs; bytes */
int64_t statm_read(int proc);

/* places.c: the part of the account a mapping's name tells; false: it tells none (heap, unnamed). */
bool is_session_file(const struct mematlas_collector *collector, const char *name);
bool part_of_name(const struct mematlas_collector *collector, const struct vma *vma,
		  struct mematlas_part *part);

/* pages.c: runs of present or swapped pages; the zero page is neither. */
int runs_read(struct mematlas_collector *collector, int proc, const struct vmas *vmas,
	      struct runs *runs);

#endif
