/* The copy of a process: which memory is taken, and where the copy lies. */
#ifndef MEMATLAS_SNAPSHOT_IMAGE_H
#define MEMATLAS_SNAPSHOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "stop.h"

#define PAGE_SEEN 0x80u

/* Memory of the copy for [start, start + size) of the process; zero where nothing was copied.
 * pages[i]: 0 nothing there, 1 resident, 2 swapped out, for page i; in the last pass PAGE_SEEN is added.
 * in_use: by a range of the image; copied: holds an earlier state of the pages that are not written since */
struct segment {
	uint64_t start, size;
	uint8_t *bytes;
	uint8_t *pages;
	bool in_use, copied;
};

/* A part of a mapping that is to be copied. start < end; all ascend */
struct part {
	uint64_t start, end;
	uint32_t kind; /* enum mematlas_heap_range_kind */
	uint32_t mapping;
	bool written_only; /* private memory of a file: only pages that differ from it */
};

struct parts {
	struct part *rows;
	size_t count, capacity;
};

/* Every range lies in one segment. segments[0 .. sorted) ascend, those before `cursor` are passed. */
struct mematlas_image {
	int pid, pagemap;
	struct mematlas_maps *maps;
	struct segment *segments;
	size_t segment_count, segment_capacity, sorted, cursor;
	struct mematlas_heap_range *ranges;
	struct mematlas_image_thread *threads;
	int userfault; /* descriptor of the process's memory; -1: none */
	struct parts registered; /* write-protected by it */
	struct mematlas_image_facts facts;
	double estimate_s; /* of the pause */
	bool knows_guards; /* this kernel tells guard regions from swapped pages */
};

/* capture.c: the mappings as they are now. */
int image_read_maps(struct mematlas_image *image);

/* select.c: the parts of the mappings that may hold pointers. Threads tell which are stacks. */
int parts_select(struct parts *parts, const struct mematlas_maps *maps,
		 const struct mematlas_image_thread *threads, size_t thread_count);
void parts_free(struct parts *parts);

/* segments.c: memory for the copy. A pass asks for the segments of its parts in ascending order. */
void segments_begin(struct mematlas_image *image);
/* Unmaps what the last pass did not ask for. */
void segments_drop_unused(struct mematlas_image *image);
/* NULL: no memory. Valid until the next call. */
struct segment *segment_prepare(struct mematlas_image *image, uint64_t start, uint64_t end);
void segments_free(struct mematlas_image *image);

/* precopy.c: copies all pages while the process runs, and again those that are written meanwhile.
 * What precopy_begin() changed in the process is undone by precopy_end(), or when the tool ends.
 * -EPERM, -EBUSY, -ENOSYS, -EXDEV, -EMFILE: not possible in this process; it is as before. */
int precopy_begin(struct mematlas_image *image, double timeout_s);
void precopy_end(struct mematlas_image *image);

/* copy.c: what is done with the runs of pages of a part that have memory. */
typedef int run_visitor(void *to, const struct mematlas_page_run *run);
int visit_pages(struct mematlas_image *image, const struct part *part, run_visitor *visit,
		void *to);
/* Copies the pages of a part into its segment. */
int copy_part(struct mematlas_image *image, const struct part *part, struct segment *segment);
/* Write-protects the pages that were written since the last time, and copies them. Adds their number. */
int protect_and_copy(struct mematlas_image *image, const struct part *part, struct segment *segment,
		     uint64_t *pages);
/* Removes what an earlier copy has of pages that are gone. */
void forget_unseen(struct segment *segment);
/* Gives the copy memory for pages that are there now, so that this is not done during the stop. */
int populate_part(struct mematlas_image *image, const struct part *part, struct segment *segment);

#endif
