/* The loops of the benchmarks run every step, operation and fault that they count. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "mematlas.h"

#define PAGES 257u

/* Bytes of a page, at most 64 KiB on any kernel. */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

static char *map(size_t length)
{
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED && madvise(at, length, MADV_NOHUGEPAGE) == 0);
	return at;
}

static void test_pointer_chase(void)
{
	char *memory = map(PAGES * PAGE);
	uint64_t order[PAGES], ns;

	for (uint64_t i = 0; i < PAGES; i++)
		order[i] = (uintptr_t)memory + (i * 100 % PAGES) * PAGE + i % 64 * 64;
	mematlas_pointer_chase_link(order, PAGES);
	for (uint64_t steps = 0; steps < 3 * PAGES; steps++)
		CHECK(mematlas_pointer_chase_run(order[0], steps, &ns) == order[steps % PAGES]);
	mematlas_pointer_chase_link(order, 1);
	CHECK(mematlas_pointer_chase_run(order[0], 12, &ns) == order[0]);
	munmap(memory, PAGES * PAGE);
}

static void test_gather(void)
{
	uint64_t words[PAGES], addresses[PAGES], ns;

	for (uint64_t i = 0; i < PAGES; i++) {
		words[i] = i * i;
		addresses[PAGES - 1 - i] = (uintptr_t)&words[i];
	}
	uint64_t sum = 0;
	for (uint64_t count = 0; count <= PAGES; count++) {
		CHECK(mematlas_gather_sum(addresses, count, &ns) == sum);
		if (count < PAGES)
			sum += words[PAGES - 1 - count];
	}
}

static void test_sharing(void)
{
	_Alignas(64) uint64_t counters[64];
	struct mematlas_sharing_result results[5];
	const int32_t anywhere[5] = {-1, -1, -1, -1, -1};
	uint64_t base = (uintptr_t)counters;

	for (int mode = MEMATLAS_SHARING_STORE; mode <= MEMATLAS_SHARING_LOAD; mode++)
		for (uint64_t distance = 0; distance <= 64; distance += 32) {
			uint64_t sum = 0, done = 0;

			if (mode == MEMATLAS_SHARING_STORE && distance == 0)
				continue; /* a data race: increments are lost */
			memset(counters, 0, sizeof(counters));
			CHECK(mematlas_sharing_run(mode, base, distance, anywhere, 5, 2000000,
						   results) == 0);
			for (unsigned i = 0; i < 64; i++)
				sum += counters[i];
			for (unsigned i = 0; i < 5; i++)
				done += results[i].operations;
			CHECK(mode == MEMATLAS_SHARING_LOAD ? sum == 0 : sum == done);
		}
	CHECK(mematlas_sharing_run(9, base, 8, anywhere, 1, 1, results) == -EINVAL);
	CHECK(mematlas_sharing_run(0, base, 8, anywhere, 0, 1, results) == -EINVAL);
	CHECK(mematlas_sharing_run(0, base, 4, anywhere, 1, 1, results) == -EINVAL);
	CHECK(mematlas_sharing_run(0, base, 8, (const int32_t[]){100000}, 1, 1, results) ==
	      -EINVAL);
}

static void test_touch(void)
{
	struct mematlas_fault_cost cost;
	char *memory = map(PAGES * PAGE);
	uint64_t at = (uintptr_t)memory;

	mematlas_fault_touch(at, PAGES * PAGE, PAGE, 0, &cost); /* the zero page */
	CHECK(cost.faults > 0);
	mematlas_fault_touch(at, PAGES * PAGE, PAGE, 1, &cost);
	CHECK(cost.faults >= PAGES);
	mematlas_fault_touch(at, PAGES * PAGE, PAGE, 1, &cost);
	CHECK(cost.faults < PAGES);
	CHECK(memory[0] == 1 && memory[(PAGES - 1) * PAGE] == 1 && memory[1] == 0);
	CHECK(mematlas_fault_advise(at, PAGES * PAGE, MADV_DONTNEED, &cost) == 0);
	CHECK(memory[0] == 0);
	CHECK(mematlas_fault_advise(at, PAGES * PAGE, 12345, &cost) == -EINVAL);
	CHECK(mematlas_fault_unmap(at, PAGES * PAGE, &cost) == 0);
}

static void test_map(void)
{
	struct mematlas_fault_cost cost;
	unsigned char resident[PAGES];
	uint64_t at;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;

	CHECK(mematlas_fault_map(PAGES * PAGE, flags, &at, &cost) == 0 && cost.ns > 0);
	CHECK(mincore((void *)(uintptr_t)at, PAGES * PAGE, resident) == 0);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(resident[i] & 1);
	CHECK(mematlas_fault_unmap(at, PAGES * PAGE, &cost) == 0);
	CHECK(mematlas_fault_map(0, flags, &at, &cost) == -EINVAL);
}

static void test_map_each(void)
{
	struct mematlas_fault_cost cost;
	uint64_t addresses[PAGES];
	unsigned char resident;

	CHECK(mematlas_fault_map_each(addresses, PAGES, PAGE, &cost) == 0 && cost.ns > 0);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(mincore((void *)(uintptr_t)addresses[i], PAGE, &resident) == 0 &&
		      !(resident & 1));
	mematlas_fault_touch_each(addresses, PAGES, PAGE, PAGE, &cost);
	CHECK(cost.faults >= PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(*(char *)(uintptr_t)addresses[i] == 1);
	CHECK(mematlas_fault_unmap_each(addresses, PAGES, PAGE, &cost) == 0);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(mincore((void *)(uintptr_t)addresses[i], PAGE, &resident) == -1);
	CHECK(mematlas_fault_map_each(addresses, 3, 0, &cost) == -EINVAL);
}

static void test_sequential_sum(void)
{
	uint64_t words[67], ns;

	for (uint64_t count = 0; count <= 67; count++)
		for (uint64_t distance = 0; distance < 80; distance += 5) {
			uint64_t sum = 0;

			for (uint64_t i = 0; i < count; i++) {
				words[i] = i * i + (i << 60);
				sum += 2 * words[i] + 1;
			}
			CHECK(mematlas_sequential_sum(words, count, distance, &ns) == sum);
		}
}

static void test_fork(void)
{
	struct mematlas_fault_cost touch, fork_cost, copy;
	char *memory = map(PAGES * PAGE);
	uint64_t at = (uintptr_t)memory;

	mematlas_fault_touch(at, PAGES * PAGE, PAGE, 1, &touch);
	CHECK(mematlas_fault_fork(at, PAGES * PAGE, PAGE, &fork_cost, &copy) == 0);
	CHECK(fork_cost.ns > 0 && copy.faults >= PAGES);
	CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	munmap(memory, PAGES * PAGE);
}

/* A choice of an earlier process, by the kernel `best`. */
static void add_choice(int work, uint8_t columns, uint8_t from_step, unsigned best)
{
	struct mematlas_kernel_choice choice = {.work = (uint16_t)work,
						.rows = 7,
						.columns = columns,
						.from_step = from_step,
						.to_step = 9,
						.best = (uint8_t)best};

	for (unsigned i = 0; mematlas_kernel_name(work, (int)i); i++) {
		choice.allowed = (uint16_t)(choice.allowed | 1u << i);
		choice.cost[i] = i == best ? 1 : 2;
	}
	CHECK(mematlas_kernel_choice_add(&choice) == 0);
}

/* Choices for other shapes and methods take the place of those before. */
static void test_kernel_names(void)
{
	static _Alignas(64) double from[64 * 128], to[128 * 64];
	uint64_t a = (uintptr_t)from, b = (uintptr_t)to, ns;

	mematlas_kernel_choices_clear();
	add_choice(MEMATLAS_WORK_HALVES, 7, 9, 1);
	add_choice(MEMATLAS_WORK_TILES, 8, 10, 2);
	CHECK(mematlas_transpose(MEMATLAS_TRANSPOSE_HALVES, a, 64 * 8, b, 64 * 8, 64, 64, 8, &ns) ==
	      0);
	CHECK(mematlas_transpose(MEMATLAS_TRANSPOSE_TILES, a, 128 * 8, b, 64 * 8, 64, 128, 8,
				 &ns) == 0);
	const char *leaf = mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_HALVES);
	const char *tile = mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_TILES);
	CHECK(leaf == mematlas_kernel_name(MEMATLAS_WORK_HALVES, 1));
	CHECK(tile == mematlas_kernel_name(MEMATLAS_WORK_TILES, 2));
	CHECK(!mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_ROWS));
	CHECK(!mematlas_transpose_kernel(-1) && !mematlas_transpose_kernel(9));
	CHECK(mematlas_transpose(MEMATLAS_TRANSPOSE_TILES, a, 64, b, 64, 8, 8, 4, &ns) == 0);
	CHECK(!mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_TILES)); /* no doubles */
	CHECK(mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_HALVES) == leaf);
	mematlas_kernel_choices_clear();
}

int main(void)
{
	test_pointer_chase();
	test_gather();
	test_sharing();
	test_touch();
	test_map();
	test_map_each();
	test_sequential_sum();
	test_kernel_names();
	test_fork();
	return 0;
}
