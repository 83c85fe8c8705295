/* Counters that threads and processes share. Relaxed, because no other memory depends on them. */
#include "mematlas.h"

int64_t mematlas_counter_add(int64_t *counter, int64_t amount)
{
	return __atomic_add_fetch(counter, amount, __ATOMIC_RELAXED);
}
