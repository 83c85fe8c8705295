/* mematlas_alloc_work: the cost of malloc(3), which LD_PRELOAD may replace, or of the pool or the
 * arena.
 *
 *   mematlas_alloc_work ALLOCATOR PATTERN SIZE LIVE THREADS MILLISECONDS
 *
 * Prints the library that holds malloc, then the operations and nanoseconds summed over all
 * threads, or for the pattern `hold` the resident bytes. SIZE 0 draws log-uniform sizes from 16 to
 * 4096 bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_work.h"

#define ARENA_BYTES (16ull << 30) /* of address space */

static struct mematlas_pool *pool;
static struct mematlas_arena *arena;

static void *alloc_from_malloc(size_t size)
{
	return malloc(size);
}

static void free_to_malloc(void *object)
{
	free(object);
}

static void *alloc_from_pool(size_t size)
{
	(void)size;
	return mematlas_pool_alloc(pool);
}

static void free_to_pool(void *object)
{
	mematlas_pool_free(pool, object);
}

static void *alloc_from_arena(size_t size)
{
	return mematlas_arena_alloc(arena, size, 16);
}

static void free_to_arena(void *object)
{
	mematlas_arena_free(arena, object);
}

static int choose_allocator(struct workload *workload, const char *name)
{
	uint64_t count = ((uint64_t)workload->live + 256) * workload->threads;

	if (strcmp(name, "malloc") == 0) {
		workload->alloc = alloc_from_malloc;
		workload->free = free_to_malloc;
		return 0;
	}
	if (strcmp(name, "arena") == 0) {
		workload->alloc = alloc_from_arena;
		workload->free = free_to_arena;
		return mematlas_arena_create(ARENA_BYTES, &arena);
	}
	if (strcmp(name, "pool") != 0)
		return -EINVAL;
	workload->alloc = alloc_from_pool;
	workload->free = free_to_pool;
	return mematlas_pool_create(workload->size, count, 16, -1, &pool);
}

static void measure(struct workload *workload)
{
	struct worker *workers = aligned_alloc(BENCH_LINE, workload->threads * sizeof(*workers));
	uint64_t operations = 0, ns = 0;

	if (!workers) {
		fprintf(stderr, "no memory for %u threads\n", workload->threads);
		exit(1);
	}
	for (unsigned i = 0; i < workload->threads; i++)
		workers[i] = (struct worker){
			.workload = workload, .number = i, .seed = 88172645463325252u + i};
	pattern_connect(workers, workload);
	workload_run_threads(workers, workload);
	for (unsigned i = 0; i < workload->threads; i++) {
		operations += workers[i].operations;
		ns += workers[i].operations ? workers[i].ns : 0;
		if (i % 2 == 0)
			free(workers[i].channel);
	}
	printf("operations %llu\nns %llu\n", (unsigned long long)operations,
	       (unsigned long long)ns);
	free(workers);
}

/* The caller compares this with LD_PRELOAD, because ld.so only warns about a library it cannot
 * find. */
static void print_library(void)
{
	Dl_info info;

	if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && info.dli_fname)
		printf("library %s\n", info.dli_fname);
}

static unsigned long parse_number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "not a number: %s\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	struct workload workload;

	if (argc != 7) {
		fprintf(stderr,
			"usage: %s malloc|pool|arena churn|batch|handoff|hold "
			"SIZE LIVE THREADS MILLISECONDS\n",
			argv[0]);
		return 2;
	}
	workload = (struct workload){.size = parse_number(argv[3]),
				     .live = parse_number(argv[4]),
				     .threads = (unsigned)parse_number(argv[5]),
				     .milliseconds = (unsigned)parse_number(argv[6])};
	if (!workload.live || !workload.threads || choose_allocator(&workload, argv[1]) != 0) {
		fprintf(stderr, "no allocator %s for this size and number\n", argv[1]);
		return 2;
	}
	print_library();
	if (strcmp(argv[2], "hold") == 0)
		return hold_run(&workload);
	workload.pattern = pattern_find(argv[2]);
	if (!workload.pattern || (workload.pattern == pattern_handoff && workload.threads % 2)) {
		fprintf(stderr, "no pattern %s for %u threads\n", argv[2], workload.threads);
		return 2;
	}
	measure(&workload);
	return 0;
}
