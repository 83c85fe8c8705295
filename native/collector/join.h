/* What the residency join reads of a process: its mappings and its pages. */
#ifndef MEMATLAS_COLLECTOR_JOIN_H
#define MEMATLAS_COLLECTOR_JOIN_H

#include "collector.h"

struct vma {
	uint64_t start, end;
	uint64_t file_offset, inode;
	char permissions[5];
	bool bss;      /* follows a file's pages and belongs to it; `name` is the file's */
	bool no_pages; /* not counted in RSS: device memory, hugetlb, vvar */
	const char *name; /* points into the text; "" if there is none */
};

/* In address order; disjoint, unless the process changed them while they were read. */
struct vmas {
	char *text;
	struct vma *items;
	size_t count, capacity;
};

enum page_state {
	PAGES_RESIDENT = 1,
	PAGES_SWAPPED = 2,
	PAGES_HUGE = 4, /* mapped by a PMD */
	PAGES_FILE = 8, /* of a file or shared memory; not: private to the process */
	PAGES_SHARED = 16 /* another process maps it, too; set by sharing_split() */
};

struct run {
	uint64_t start, end;
	uint32_t state;
	uint32_t processes; /* that map each page; 0: unknown */
	float share; /* of each byte, as in PSS; 1 without PAGES_SHARED */
};

/* In address order, disjoint; neighbours differ in state or share. */
struct runs {
	struct run *items;
	size_t count, capacity;
	bool has_zero_pages; /* as resident, since pagemap alone does not tell them (before Linux 6.7) */
};

/* bss.c: false: no memory */
bool vmas_name_bss(int proc, struct vmas *vmas);

/* vmas.c: reads maps, or smaps if mappings may have no pages, which only smaps shows. */
int vmas_read(int proc, struct vmas *ret);
void vmas_free(struct vmas *vmas);
int proc_read(int proc, const char *name, char **ret); /* a whole file */
int64_t statm_read(int proc); /* RSS in bytes */

/* vma_class.c: the part of the account that a mapping's name decides; false: it decides none (the
 * heap, unnamed mappings). */
bool is_session_memory(const struct mematlas_collector *collector, const char *name);
bool part_of_name(const struct mematlas_collector *collector, const struct vma *vma,
		  struct mematlas_part *ret);

/* residency.c: runs of present or swapped pages; the zero page is neither, but see has_zero_pages. */
int runs_read(struct mematlas_collector *collector, int proc, const struct vmas *vmas,
	      struct runs *ret);

#endif
