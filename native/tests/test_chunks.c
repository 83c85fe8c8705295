/* The walk over malloc's chunks, on heaps that the test writes and on malformed ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../proc/page_size.h"
#include "check.h"
#include "fake_page_size.h"
#include "mematlas.h"

#define PAGE page_bytes()
#define START 0x10000UL
#define IN_USE 1UL

/* A process's mem and pagemap as files; an offset is an address. */
struct process {
	int memory;
	int pagemap;
	uint64_t at; /* where the next chunk goes */
};

static struct process begin(void)
{
	struct process process = {memfd_create("mem", 0), memfd_create("pagemap", 0), START};

	CHECK(process.memory >= 0 && process.pagemap >= 0);
	CHECK(ftruncate(process.memory, START + 64 * PAGE) == 0);
	for (uint64_t page = 0; page < START / PAGE + 64; page++) {
		uint64_t entry = 1UL << 63;

		CHECK(pwrite(process.pagemap, &entry, 8, (off_t)(page * 8)) == 8);
	}
	return process;
}

static void end(struct process *process)
{
	close(process->memory);
	close(process->pagemap);
}

/* One chunk; `previous` says whether the one before it is in use. */
static void add(struct process *process, uint64_t size, uint64_t previous)
{
	uint64_t word = size | previous;

	CHECK(pwrite(process->memory, &word, 8, (off_t)process->at + 8) == 8);
	process->at += size;
}

static int walk(struct process *process, int main, struct mematlas_heap_walk *found)
{
	return mematlas_heap_walk(process->memory, process->pagemap, START, process->at, main,
				  found);
}

static void test_sums(void)
{
	struct process process = begin();
	struct mematlas_heap_walk found;

	add(&process, 0x290, IN_USE);
	add(&process, 3 * PAGE - 0x290, IN_USE); /* free, by the flag of the next chunk */
	add(&process, PAGE, 0);
	add(&process, 4 * PAGE, IN_USE); /* the last chunk is free, too */
	CHECK(walk(&process, 1, &found) == 0);
	CHECK(found.chunks == 3 && found.in_use == 0x290 + PAGE);
	CHECK(found.top == 4 * PAGE && found.free == 7 * PAGE - 0x290);
	/* All pages of the hole behind its links, and all of the top but the page of its header. */
	CHECK(found.trimmable == 2 * PAGE + 3 * PAGE);
	CHECK(walk(&process, 0, &found) == 0);
	CHECK(found.trimmable == 2 * PAGE); /* the top of other arenas is never trimmed */
	end(&process);
}

static void test_only_resident_pages_come_back(void)
{
	struct process process = begin();
	struct mematlas_heap_walk found;
	uint64_t gone = 0;

	add(&process, 8 * PAGE, IN_USE);
	add(&process, PAGE, 0);
	add(&process, PAGE, IN_USE);
	CHECK(walk(&process, 0, &found) == 0 && found.trimmable == 7 * PAGE);
	CHECK(pwrite(process.pagemap, &gone, 8, (off_t)((START / PAGE + 3) * 8)) == 8);
	CHECK(walk(&process, 0, &found) == 0 && found.trimmable == 6 * PAGE);
	end(&process);
}

static void test_fences_end_a_heap(void)
{
	struct process process = begin();
	struct mematlas_heap_walk found;

	add(&process, 2 * PAGE, IN_USE);
	add(&process, PAGE - 0x20, IN_USE);
	add(&process, 0x10, IN_USE);
	add(&process, 0, IN_USE);
	process.at += 0x10;
	CHECK(walk(&process, 0, &found) == 0);
	CHECK(found.in_use == 3 * PAGE - 0x20 && found.free == 0 && found.top == 0);
	end(&process);
}

static void test_what_is_no_heap_is_refused(void)
{
	const uint64_t sizes[] = {0, 8, 0x18, 0x28, 65 * PAGE, UINT64_MAX & ~7UL};
	struct mematlas_heap_walk found;

	for (size_t index = 0; index < sizeof(sizes) / sizeof(*sizes); index++) {
		struct process process = begin();

		add(&process, PAGE, IN_USE);
		add(&process, sizes[index], IN_USE);
		process.at = START + 32 * PAGE;
		CHECK(walk(&process, 1, &found) == -EUCLEAN);
		end(&process);
	}
}

/* With any word anywhere, the walk ends and stays in the heap. */
static void test_noise(void)
{
	unsigned int seed = 7;

	for (int round = 0; round < 2000; round++) {
		struct process process = begin();
		struct mematlas_heap_walk found;
		int result;

		for (int chunk = 0; chunk < 12; chunk++)
			add(&process, ((uint64_t)rand_r(&seed) % 300) * 8,
			    (uint64_t)rand_r(&seed) & 1);
		process.at = START + 4 * PAGE;
		result = walk(&process, round % 2, &found);
		CHECK(result == 0 || result == -EUCLEAN);
		CHECK(found.in_use + found.free <= 4 * PAGE);
		end(&process);
	}
}

int main(void)
{
	test_sums();
	test_only_resident_pages_come_back();
	test_fences_end_a_heap();
	test_what_is_no_heap_is_refused();
	test_noise();
	return 0;
}
