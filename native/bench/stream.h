/* One set of bandwidth loops: a width of vectors, and what a CPU needs to run it. Bytes are doubles;
 * the arrays may be of any length and alignment, and must not overlap. */
#ifndef MEMATLAS_KERNELS_STREAM_H
#define MEMATLAS_KERNELS_STREAM_H

#include <stdint.h>

#define STREAM_FACTOR 3.0

struct stream_loops {
	const char *name;
	double (*read)(const double *a, uint64_t count);
	/* a is written, from b and c. Indexed by enum mematlas_stream_operation. */
	void (*store[6])(double *a, const double *b, const double *c, uint64_t count);
	void (*bypass[6])(double *a, const double *b, const double *c, uint64_t count);
};

const struct stream_loops *stream_loops_best(void);
const struct stream_loops *stream_loops_named(const char *name);

#endif
