/* Numbers for tests, the same at each run: xorshift64 (Marsaglia: Xorshift RNGs). */
#ifndef MEMATLAS_TESTS_RANDOM_H
#define MEMATLAS_TESTS_RANDOM_H

#include <stdint.h>

/* *seed != 0 */
static inline uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

#endif
