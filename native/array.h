/* Arrays that grow by doubling. */
#ifndef MEMATLAS_ARRAY_H
#define MEMATLAS_ARRAY_H

#include <stdlib.h>

/* Reserves one item more; false: no memory, and the array is unchanged. `capacity` may be of any
 * unsigned type; it does not wrap. */
#define ARRAY_RESERVE(items, count, capacity, first)                                               \
	({                                                                                         \
		__typeof__(capacity) larger_ = (capacity) ? (capacity) * 2 : (first);              \
		void *moved_ = NULL;                                                               \
		if ((count) == (capacity) && larger_ > (capacity))                                 \
			moved_ = realloc((items), (size_t)larger_ * sizeof *(items));              \
		if (moved_) {                                                                      \
			(items) = moved_;                                                          \
			(capacity) = larger_;                                                      \
		}                                                                                  \
		(count) < (capacity);                                                              \
	})

#endif
