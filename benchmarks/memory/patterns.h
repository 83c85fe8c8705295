/* What a thread of allocators.c does. */
#ifndef PATTERNS_H
#define PATTERNS_H

#include <pthread.h>
#include <stdint.h>

struct worker {
	_Alignas(128) pthread_t thread;
	unsigned number, threads;
	unsigned long operations;
	uint64_t seed;
	double wall, cpu; /* ns of one operation */
};

struct pattern {
	const char *name;
	void (*run)(struct worker *worker);
	unsigned least_threads;
};

/* NULL: no pattern has the name. */
const struct pattern *find_pattern(const char *name);

#endif
