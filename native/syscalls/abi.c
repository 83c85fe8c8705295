/* What the C interface and Python must agree on. A change here is one of the ABI. */
#include <stddef.h>

#include "mematlas.h"
#include "trace_format.h"

#define ROW(type, bytes)                                                                           \
	_Static_assert(sizeof(struct type) == (bytes), #type " is a row of that size")
#define COLUMN(type, field, at)                                                                    \
	_Static_assert(offsetof(struct type, field) == (at), #type "." #field " is at that "       \
								   "offset")

/* Rows that Python reads as NumPy arrays: the dtypes of mematlas.recording. */
ROW(mematlas_node, 16);
COLUMN(mematlas_node, parent, 0);
COLUMN(mematlas_node, word, 8);

ROW(mematlas_snapshot_row, 56);
COLUMN(mematlas_snapshot_row, stack, 0);
COLUMN(mematlas_snapshot_row, kind, 4);
COLUMN(mematlas_snapshot_row, live_bytes, 8);
COLUMN(mematlas_snapshot_row, live_count, 16);
COLUMN(mematlas_snapshot_row, live_variance, 24);
COLUMN(mematlas_snapshot_row, resident_bytes, 32);
COLUMN(mematlas_snapshot_row, huge_bytes, 40);
COLUMN(mematlas_snapshot_row, swapped_bytes, 48);

ROW(mematlas_total, 96);
COLUMN(mematlas_total, stack, 0);
COLUMN(mematlas_total, kind, 4);
COLUMN(mematlas_total, allocated_bytes, 8);
COLUMN(mematlas_total, allocations, 16);
COLUMN(mematlas_total, allocated_variance, 24);
COLUMN(mematlas_total, freed_bytes, 32);
COLUMN(mematlas_total, peak_bytes, 40);
COLUMN(mematlas_total, peak_count, 48);
COLUMN(mematlas_total, peak_variance, 56);
COLUMN(mematlas_total, live_bytes, 64);
COLUMN(mematlas_total, live_count, 72);
COLUMN(mematlas_total, live_variance, 80);
COLUMN(mematlas_total, bad_frees, 88);

ROW(mematlas_lifetimes, 72);
COLUMN(mematlas_lifetimes, stack, 0);
COLUMN(mematlas_lifetimes, kind, 4);
COLUMN(mematlas_lifetimes, counts, 8);
COLUMN(mematlas_lifetimes, temporary_bytes, 64);
_Static_assert(sizeof((struct mematlas_lifetimes){0}.counts) ==
		       MEMATLAS_LIFETIME_CLASSES * sizeof(double),
	       "a count for each class of lifetimes");

ROW(mematlas_live_block, 24);
COLUMN(mematlas_live_block, address, 0);
COLUMN(mematlas_live_block, size, 8);
COLUMN(mematlas_live_block, stack, 16);
COLUMN(mematlas_live_block, kind, 20);
ROW(mematlas_age_cell, 40);
COLUMN(mematlas_age_cell, stack, 0);
COLUMN(mematlas_age_cell, kind, 4);
COLUMN(mematlas_age_cell, born, 8);
COLUMN(mematlas_age_cell, died, 12);
COLUMN(mematlas_age_cell, bytes, 16);
COLUMN(mematlas_age_cell, count, 24);
COLUMN(mematlas_age_cell, variance, 32);

ROW(mematlas_stack_bytes, 16);
COLUMN(mematlas_stack_bytes, stack, 0);
COLUMN(mematlas_stack_bytes, kind, 4);
COLUMN(mematlas_stack_bytes, bytes, 8);

ROW(mematlas_object, 32);
COLUMN(mematlas_object, node, 0);
COLUMN(mematlas_object, type, 4);
COLUMN(mematlas_object, bytes, 8);
COLUMN(mematlas_object, count, 16);
COLUMN(mematlas_object, variance, 24);

ROW(mematlas_fault_site, 56);
COLUMN(mematlas_fault_site, stack, 0);
COLUMN(mematlas_fault_site, owner, 4);
COLUMN(mematlas_fault_site, kind, 8);
COLUMN(mematlas_fault_site, faults, 16);
COLUMN(mematlas_fault_site, major_faults, 24);
COLUMN(mematlas_fault_site, variance, 32);
COLUMN(mematlas_fault_site, bytes, 40);
COLUMN(mematlas_fault_site, bytes_variance, 48);

ROW(mematlas_sample, 48);
COLUMN(mematlas_sample, time_s, 0);
COLUMN(mematlas_sample, rss_bytes, 8);
COLUMN(mematlas_sample, live_bytes, 16);
COLUMN(mematlas_sample, swap_bytes, 24);
COLUMN(mematlas_sample, minor_faults, 32);
COLUMN(mematlas_sample, major_faults, 40);

/* Filled by the kernel. */
ROW(mematlas_page_run, 24);
ROW(mematlas_cachestat, 40);

/* Numbers that Python has by value. */
_Static_assert(MEMATLAS_PACKING_BITS == 0 && MEMATLAS_PACKING_WHOLE == 1 &&
		       MEMATLAS_PACKING_STEPS == 2 && MEMATLAS_PACKING_BEHIND == 3 &&
		       MEMATLAS_PACKING_WORDS == 4,
	       "ways of packing stand in recordings");
_Static_assert(TRACE_MALLOC == 1 && TRACE_MMAP == 2 && TRACE_PYOBJECT == 3 && TRACE_ARENA == 4 &&
		       TRACE_FILEMAP == 5,
	       "kinds stand in recordings");
_Static_assert(MEMATLAS_KIND_COMMITTED == 6 && MEMATLAS_KIND_STACK == 7 &&
		       MEMATLAS_KIND_SHARED == 8 && MEMATLAS_KIND_COPY == 9,
	       "and so do these");
_Static_assert(MEMATLAS_PART_LIVE == 0 && MEMATLAS_PART_SLACK == 1 && MEMATLAS_PART_BEFORE == 2 &&
		       MEMATLAS_PART_STACK == 3 && MEMATLAS_PART_FILE == 4 &&
		       MEMATLAS_PART_COPY == 5 && MEMATLAS_PART_SHARED == 6 &&
		       MEMATLAS_PART_ANON == 7 && MEMATLAS_PART_TRACER == 8,
	       "the order of PartKind in Python");
_Static_assert(TRACE_FAULTS_OFF == 0 && TRACE_FAULTS_ON == 1 && TRACE_FAULTS_REFUSED == 2 &&
		       TRACE_FAULTS_ENDED == 3,
	       "states of page fault sampling");

int mematlas_abi(void)
{
	return 2;
}

ROW(mematlas_sharing, 24);
COLUMN(mematlas_sharing, stack, 0);
COLUMN(mematlas_sharing, kind, 4);
COLUMN(mematlas_sharing, shared_bytes, 8);
COLUMN(mematlas_sharing, share_bytes, 16);
