/* Time of a stack walk, compared with libgcc and glibc. Prints figures and checks none. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unwind.h>

#include "../tracer/memory.h"
#include "../tracer/state.h"
#include "../tracer/unwind.h"

#define WALKS 20000u

struct trace_session trace_session;
__thread struct trace_tls trace_tls;

void *trace_map(size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static struct trace_walk walk;
static struct trace_bounds bounds;
static volatile uint64_t sink;

static void find_bounds(void)
{
	pthread_attr_t attributes;
	void *low;
	size_t size;

	if (pthread_getattr_np(pthread_self(), &attributes) != 0 ||
	    pthread_attr_getstack(&attributes, &low, &size) != 0)
		exit(2);
	pthread_attr_destroy(&attributes);
	bounds.stack_low = (uintptr_t)low;
	bounds.stack_high = (uintptr_t)low + size;
}

static void walk_fresh(void)
{
	walk.reusable = false;
	sink += trace_unwind(&walk, &bounds);
}

static void walk_reusing(void)
{
	sink += trace_unwind(&walk, &bounds);
}

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *context, void *argument)
{
	sink += _Unwind_GetIP(context);
	++*(unsigned *)argument;
	return _URC_NO_REASON;
}

static void walk_libgcc(void)
{
	unsigned count = 0;

	_Unwind_Backtrace(count_frame, &count);
}

static void walk_glibc(void)
{
	void *pcs[UNWIND_MAX_FRAMES];

	sink += (unsigned)backtrace(pcs, UNWIND_MAX_FRAMES);
}

/* Nanoseconds per walk: the best of a few rounds, since the machine may be busy. */
static double measure(void (*take)(void))
{
	double best = 1e18;

	take();
	for (int round = 0; round < 7; round++) {
		struct timespec start, end;
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (unsigned i = 0; i < WALKS; i++)
			take();
		clock_gettime(CLOCK_MONOTONIC, &end);
		double ns = ((double)(end.tv_sec - start.tv_sec) * 1e9 +
			     (double)(end.tv_nsec - start.tv_nsec)) /
			    WALKS;
		best = ns < best ? ns : best;
	}
	return best;
}

static __attribute__((noinline)) int descend(int depth)
{
	volatile int here = depth;

	if (depth)
		return descend(depth - 1) + here;
	double fresh = measure(walk_fresh), reusing = measure(walk_reusing);
	double libgcc = measure(walk_libgcc), glibc = measure(walk_glibc);
	walk_fresh();
	printf("%5u frames: fresh %.0f ns, reusing the last %.0f ns, _Unwind_Backtrace %.0f ns, "
	       "backtrace %.0f ns\n",
	       walk.count, fresh, reusing, libgcc, glibc);
	return here;
}

int main(void)
{
	if (!trace_unwind_start())
		return 2;
	find_bounds();
	descend(3);
	descend(24);
	descend(94);
	return 0;
}
