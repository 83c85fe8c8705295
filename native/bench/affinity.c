#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "affinity.h"

int pin_thread(int cpu)
{
	cpu_set_t *set = CPU_ALLOC((size_t)cpu + 1);
	size_t size = CPU_ALLOC_SIZE((size_t)cpu + 1);

	if (!set)
		return -ENOMEM;
	CPU_ZERO_S(size, set);
	CPU_SET_S((size_t)cpu, size, set);
	int result = -pthread_setaffinity_np(pthread_self(), size, set);
	CPU_FREE(set);
	return result;
}

void await_all(_Atomic uint32_t *ready, uint32_t threads, _Atomic uint32_t *abandoned)
{
	atomic_fetch_add(ready, 1);
	for (unsigned turn = 1;
	     atomic_load_explicit(ready, memory_order_acquire) < threads && !atomic_load(abandoned);
	     turn++)
		if (turn % 1024 == 0)
			sched_yield();
}
