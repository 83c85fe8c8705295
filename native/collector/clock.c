/* The session's clock: the tracer's cycle counter, and its relation to CLOCK_MONOTONIC. */
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "collector.h"

uint64_t clock_cycles(void)
{
#if defined(__x86_64__)
	_mm_lfence();
	uint64_t now = __rdtsc();
	_mm_lfence();
	return now;
#elif defined(__aarch64__)
	uint64_t now;
	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(now)::"memory");
	return now;
#else
	return 0;
#endif
}

bool clock_is_steady(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;
	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8); /* invariant TSC */
#elif defined(__aarch64__)
	return true;
#else
	return false;
#endif
}

uint64_t clock_read(const struct mematlas_collector *collector)
{
	if (collector->control->clock == TRACE_CLOCK_COUNTER)
		return __atomic_load_n(&collector->common->clock, __ATOMIC_SEQ_CST);
	return clock_cycles() - collector->control->clock_base;
}

double clock_tick_s(const struct mematlas_collector *collector)
{
	double passed = clock_monotonic_s() - collector->started;
	uint64_t now = clock_read(collector);

	if (collector->control->clock == TRACE_CLOCK_COUNTER || now == 0)
		return 0;
	return passed / (double)now;
}

double clock_since_start_s(const struct mematlas_collector *collector, uint64_t clock)
{
	double passed = clock_monotonic_s() - collector->started;
	double when = (double)clock * clock_tick_s(collector);

	return when > 0 && when < passed ? when : passed;
}
