/* What an allocator takes from the kernel for what it hands out, and keeps once it is given back. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc_work.h"

/* Resident anonymous bytes, told without a malloc. */
static uint64_t resident(void)
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

static uint64_t fill(const struct work *work, void **table, uint64_t *seed)
{
	uint64_t asked = 0;

	for (size_t i = 0; i < work->live; i++) {
		size_t size = draw_size(work, seed);

		table[i] = work->take(size);
		if (!table[i])
			exit(1);
		memset(table[i], 1, size);
		asked += size;
	}
	return asked;
}

/* Gives nine in ten back, at random: what stays pins pages. */
static void thin_out(const struct work *work, void **table, uint64_t *seed)
{
	for (size_t i = 0; i < work->live; i++)
		if (draw(seed) % 10) {
			work->give(table[i]);
			table[i] = NULL;
		}
}

int hold_memory(const struct work *work)
{
	size_t bytes = work->live * sizeof(void *);
	void **table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint64_t seed = 88172645463325252u;

	if (table == MAP_FAILED)
		return 1;
	work->give(take_one(work, &seed)); /* the allocator starts up */
	uint64_t before = resident();
	uint64_t asked = fill(work, table, &seed);
	uint64_t held = resident() - before;
	thin_out(work, table, &seed);
	uint64_t thin = resident();
	for (size_t i = 0; i < work->live; i++)
		if (table[i])
			work->give(table[i]);
	uint64_t empty = resident();
	printf("asked %llu\nheld %llu\nthin %llu\nempty %llu\n", (unsigned long long)asked,
	       (unsigned long long)held, (unsigned long long)(thin > before ? thin - before : 0),
	       (unsigned long long)(empty > before ? empty - before : 0));
	return 0;
}
