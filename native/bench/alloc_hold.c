/* Resident memory of an allocator: with all objects live, with one in ten live, and with none. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc_work.h"

/* Resident anonymous bytes. Not by stdio, which would allocate its buffer from the allocator
 * measured. */
static uint64_t resident_bytes(void)
{
	char text[256], *field = text;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (length <= 0) {
		fputs("/proc/self/statm cannot be read\n", stderr);
		exit(1);
	}
	close(fd);
	text[length] = '\0';
	strtoul(field, &field, 10);
	unsigned long pages = strtoul(field, &field, 10), shared = strtoul(field, &field, 10);
	return (pages - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t fill_table(const struct workload *workload, void **table, uint64_t *seed)
{
	uint64_t requested = 0;

	for (size_t i = 0; i < workload->live; i++) {
		size_t size = workload_random_size(workload, seed);

		table[i] = workload->alloc(size);
		if (!table[i])
			exit(1);
		memset(table[i], 1, size);
		requested += size;
	}
	return requested;
}

/* Free nine objects in ten, at random. The rest fragment their pages. */
static void free_most(const struct workload *workload, void **table, uint64_t *seed)
{
	for (size_t i = 0; i < workload->live; i++)
		if (workload_random(seed) % 10) {
			workload->free(table[i]);
			table[i] = NULL;
		}
}

int hold_run(const struct workload *workload)
{
	size_t bytes = workload->live * sizeof(void *);
	void **table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t seed = 88172645463325252u;

	if (table == MAP_FAILED)
		return 1;
	workload->free(workload_alloc(workload, &seed)); /* initialises the allocator */
	uint64_t before = resident_bytes();
	uint64_t requested = fill_table(workload, table, &seed);
	uint64_t held = resident_bytes() - before;
	free_most(workload, table, &seed);
	uint64_t thin = resident_bytes();
	for (size_t i = 0; i < workload->live; i++)
		if (table[i])
			workload->free(table[i]);
	uint64_t empty = resident_bytes();
	printf("asked %llu\nheld %llu\nthin %llu\nempty %llu\n", (unsigned long long)requested,
	       (unsigned long long)held, (unsigned long long)(thin > before ? thin - before : 0),
	       (unsigned long long)(empty > before ? empty - before : 0));
	return 0;
}
