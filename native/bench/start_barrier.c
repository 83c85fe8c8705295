#define _GNU_SOURCE
#include <sched.h>

#include "start_barrier.h"

void start_barrier_wait(struct start_barrier *barrier)
{
	atomic_fetch_add(&barrier->ready, 1);
	for (unsigned turn = 1;
	     atomic_load_explicit(&barrier->ready, memory_order_acquire) < barrier->threads &&
	     !atomic_load(&barrier->cancelled);
	     turn++)
		if (turn % 1024 == 0)
			sched_yield();
}

void start_barrier_cancel(struct start_barrier *barrier)
{
	atomic_store(&barrier->cancelled, 1);
}
