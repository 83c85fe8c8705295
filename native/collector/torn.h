/* Whether a sum of smaps is of one moment. */
#ifndef MEMATLAS_COLLECTOR_TORN_H
#define MEMATLAS_COLLECTOR_TORN_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that the kernel has counted but not added yet, at most. */
struct lag {
	uint64_t bytes, bytes_of_thread;
};

/* What the kernel's counters tell beside a sum of smaps. */
struct counters {
	uint64_t before, after; /* RSS by statm; 0: unknown */
	uint64_t highest;       /* RSS until then (VmHWM); 0: unknown */
	uint64_t lag;
};

/* Of the sums less the counters, of several tries. Begins as TORN_NONE. */
struct torn {
	int64_t least, most;
};
#define TORN_NONE ((struct torn){INT64_MAX, INT64_MIN})

struct lag lag_read(void);
/* By how much the counters may differ from a sum of one moment. */
uint64_t counters_doubt(const struct counters *counters, uint64_t rss);
/* `off`: by how much the sums of this process are above the counters. */
bool sum_is_torn(const struct counters *counters, uint64_t rss, int64_t off);
/* Whether all sums of `torn`, with this one, differ from the counters by the same. */
bool torn_add(struct torn *torn, const struct counters *counters, uint64_t rss);

#endif
