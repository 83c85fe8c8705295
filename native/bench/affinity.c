#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "affinity.h"

int affinity_set_cpu(int cpu)
{
	if (cpu < 0)
		return 0;
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
