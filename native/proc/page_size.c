#include <unistd.h>

#include "page_size.h"

uint64_t page_bytes(void)
{
	static uint64_t cached; /* 0: not asked yet; threads that race store the same value */
	uint64_t size = __atomic_load_n(&cached, __ATOMIC_RELAXED);

	if (!size) {
		size = (uint64_t)sysconf(_SC_PAGESIZE);
		__atomic_store_n(&cached, size, __ATOMIC_RELAXED);
	}
	return size;
}
