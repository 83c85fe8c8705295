/* Bandwidth loops for one width of vectors. Arrays of doubles of any length and alignment, which
 * must not overlap. */
#ifndef MEMATLAS_BENCH_STREAM_H
#define MEMATLAS_BENCH_STREAM_H

#include <stdint.h>

#define STREAM_FACTOR 3.0

#define STREAM_READERS 4u

struct stream_reader {
	const char *name;
	double (*read)(const double *a, uint64_t count);
};

struct stream_loops {
	const char *name;
	struct stream_reader read[STREAM_READERS];
	/* Write a from b and c. By enum mematlas_stream_operation; READ has no entry. */
	void (*store[6])(double *a, const double *b, const double *c, uint64_t count);
	/* The same with non-temporal stores. */
	void (*bypass[6])(double *a, const double *b, const double *c, uint64_t count);
};

/* The widest vectors that this CPU has. */
const struct stream_loops *stream_loops_best(void);
/* NULL: this CPU lacks the vectors. */
const struct stream_loops *stream_loops_named(const char *name);
/* Vectors half as wide as the widest, which some CPUs read faster by; NULL: there are none. */
const struct stream_loops *stream_loops_narrower(void);
/* The fastest reader of an array, found by timing each on parts of the array. loops: NULL for vectors of
 * any width. */
const struct stream_reader *stream_reader_for(const struct stream_loops *loops, const double *a,
					      uint64_t count);
/* The name of a reader of MEMATLAS_WORK_READ and the kinds of work after it. NULL: there is none here. */
const char *stream_reader_name(int work, unsigned kernel);

#endif
