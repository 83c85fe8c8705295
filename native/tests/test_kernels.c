/* Each kernel of each width of vectors that this CPU has, against two nested loops; how a kernel is chosen; and
 * which choices of other processes are believed. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../bench/choice.h"
#include "../bench/page_kind.h"
#include "../bench/stream.h"
#include "../bench/transpose.h"
#include "check.h"
#include "mematlas.h"

#define GAP 24u /* doubles between rows, and at both ends of the target: multiples of a line */
#define UNTOUCHED -7.0

/* `length` doubles, `shift` of them after a cache line. */
static double *doubles(size_t length, unsigned shift, void **block)
{
	*block = aligned_alloc(64, (length + 8) * 8 / 64 * 64 + 64);
	CHECK(*block);
	return (double *)*block + shift;
}

/* Nothing but rows x columns of the target is written. */
static void check_target(const double *from, uint64_t from_step, const double *to, uint64_t to_step,
			 uint64_t rows, uint64_t columns)
{
	for (uint64_t i = 0; i < GAP; i++)
		CHECK(to[i] == UNTOUCHED);
	for (uint64_t c = 0; c < columns; c++)
		for (uint64_t r = 0; r < to_step; r++) {
			double found = to[GAP + c * to_step + r];
			CHECK(found == (r < rows ? from[r * from_step + c] : UNTOUCHED));
		}
}

static void try_block(const struct block_vectors *vectors, const struct kernel *kernel,
		      uint64_t rows, uint64_t columns, unsigned shift)
{
	uint64_t from_step = columns + shift, to_step = rows + (kernel->bypass ? GAP : shift + 1);
	unsigned to_shift = kernel->bypass ? 0 : shift;
	uint64_t length = 2 * GAP + columns * to_step;
	void *blocks[2];
	double *from = doubles(rows * from_step, shift, &blocks[0]);
	double *to = doubles(length, to_shift, &blocks[1]);

	to_step = kernel->bypass ? (to_step + 7) / 8 * 8 : to_step;
	for (uint64_t i = 0; i < rows * from_step; i++)
		from[i] = (double)i;
	for (uint64_t i = 0; i < length; i++)
		to[i] = UNTOUCHED;
	struct matrix m = {(const char *)from, (char *)(to + GAP), rows, columns,
			   from_step * 8,      to_step * 8,        8};
	CHECK(kernels_for(kernel, 1, &m) == 1);
	transpose_block(vectors, kernel, &m, m.from + columns * 8);
	transpose_fence();
	check_target(from, from_step, to, to_step, rows, columns);
	free(blocks[0]);
	free(blocks[1]);
}

static void try_kernel(const struct block_vectors *vectors, const struct kernel *kernel)
{
	CHECK(kernel->rows % 8 == 0 && kernel->columns % 8 == 0 && kernel->strip % 8 == 0);
	CHECK(!kernel->buffered || kernel->rows * kernel->columns <= MOST_IN_TILE);
	for (unsigned shift = 0; shift < 8; shift += 3) {
		try_block(vectors, kernel, kernel->rows, kernel->columns, shift);
		try_block(vectors, kernel, 8, kernel->columns, shift);
		try_block(vectors, kernel, kernel->rows, 8, shift);
		try_block(vectors, kernel, kernel->rows - 8, kernel->columns - 8, shift);
	}
	try_block(vectors, kernel, 8, 8, 5);
}

static void test_every_kernel_of_every_width(void)
{
	unsigned widths = 0;

	for (unsigned width = 0; width < BLOCK_WIDTHS; width++) {
		const struct block_vectors *vectors = block_vectors(width);
		if (!vectors)
			continue;
		widths++;
		for (unsigned i = 0; i < TILE_KERNELS; i++)
			try_kernel(vectors, &tile_kernels[i]);
		for (unsigned i = 0; i < LEAF_KERNELS; i++)
			try_kernel(vectors, &leaf_kernels[i]);
	}
	CHECK(widths >= 1 && block_vectors_best() && !block_vectors(BLOCK_WIDTHS));
}

/* Integers, whose sums are exact in any order. */
static void test_every_reader(void)
{
	static _Alignas(64) double numbers[3000];
	unsigned found = 0;

	for (unsigned i = 0; i < 3000; i++)
		numbers[i] = i % 97;
	for (int work = MEMATLAS_WORK_READ; work < MEMATLAS_WORK_READ + 6; work++)
		found += stream_reader_name(work, 0) != NULL;
	CHECK(found >= 2); /* any width, and at least one by name */
	static const char *const names[] = {"AVX-512", "AVX2", "SSE2", "NEON", "plain"};
	for (unsigned n = 0; n < 5; n++) {
		const struct stream_loops *loops = stream_loops_named(names[n]);
		for (unsigned i = 0; loops && i < STREAM_READERS; i++)
			for (unsigned count = 0; count < 2900; count = count * 2 + 1)
				for (unsigned shift = 0; shift < 8; shift++) {
					double sum = 0;
					for (unsigned k = 0; k < count; k++)
						sum += numbers[shift + k];
					CHECK(loops->read[i].read(numbers + shift, count) == sum);
				}
	}
}

static void test_the_quicker_is_chosen(void)
{
	struct choice_key key = {.work = MEMATLAS_WORK_TILES, .allowed = 1u << 2 | 1u << 5};
	struct mematlas_kernel_choice kept[4];

	mematlas_kernel_choices_clear();
	struct choice *choice = choice_for(&key);
	unsigned tries = 0;
	for (; !choice->settled; tries++) {
		struct choice_trial trial = choice_begin(choice);
		CHECK(trial.kernel == 2 || trial.kernel == 5);
		if (trial.kernel == 2)
			usleep(3000);
		choice_end(choice, &trial, 1);
	}
	CHECK(tries >= 2 * CHOICE_TRIALS && tries <= 12 + 2 * CHOICE_TRIALS);
	CHECK(choice->best == 5 || !choice->sure);
	CHECK(mematlas_kernel_choices(kept, 4) == choice->sure);
	CHECK(!choice->sure || (kept[0].best == 5 && kept[0].measured_here));
}

/* A choice that an earlier process could have made for `m`, by the fifth kernel. */
static struct mematlas_kernel_choice sample(void)
{
	struct mematlas_kernel_choice sample = {.work = MEMATLAS_WORK_TILES,
						.allowed = (1u << TILE_KERNELS) - 1,
						.rows = 7,
						.columns = 8,
						.from_step = 10,
						.to_step = 9,
						.best = 4};

	for (unsigned i = 0; i < TILE_KERNELS; i++)
		sample.cost[i] = i == 4 ? 0.5 : 1 + i;
	return sample;
}

static void test_choices_of_others(void)
{
	static _Alignas(64) double from[64 * 128], to[128 * 64];
	struct mematlas_kernel_choice good = sample(), kept[4];
	uint64_t ns, made = mematlas_kernel_choices_made();

	mematlas_kernel_choices_clear();
	CHECK(mematlas_kernel_choice_add(&good) == 0);
	CHECK(mematlas_kernel_choices(kept, 4) == 1 && !kept[0].measured_here);
	CHECK(mematlas_transpose(MEMATLAS_TRANSPOSE_TILES, (uintptr_t)from, 128 * 8, (uintptr_t)to,
				 64 * 8, 64, 128, 8, &ns) == 0);
	CHECK(strcmp(mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_TILES), tile_kernels[4].name) ==
	      0);
	CHECK(mematlas_kernel_choices_made() == made); /* without a trial */
	mematlas_kernel_choices_clear();
	CHECK(mematlas_kernel_choices(kept, 4) == 0);
	CHECK(mematlas_transpose(MEMATLAS_TRANSPOSE_TILES, (uintptr_t)from, 128 * 8, (uintptr_t)to,
				 64 * 8, 64, 128, 8, &ns) == 0);
	CHECK(!mematlas_transpose_kernel(MEMATLAS_TRANSPOSE_TILES)); /* one band: not chosen yet */
}

static void refuse(struct mematlas_kernel_choice wrong)
{
	struct mematlas_kernel_choice kept[4];

	mematlas_kernel_choices_clear();
	CHECK(mematlas_kernel_choice_add(&wrong) == -EINVAL);
	CHECK(mematlas_kernel_choices(kept, 4) == 0);
}

static void test_unsound_choices_are_refused(void)
{
#define REFUSE(change)                                                                             \
	do {                                                                                       \
		struct mematlas_kernel_choice s = sample();                                        \
		change;                                                                            \
		refuse(s);                                                                         \
	} while (0)
	REFUSE(s.work = 0);
	REFUSE(s.work = 3);
	REFUSE(s.work = 999);
	REFUSE(s.work = MEMATLAS_WORK_HALVES); /* has fewer kernels */
	REFUSE(s.allowed = 0);
	REFUSE(s.allowed = 0xffff);
	REFUSE(s.allowed = 1);
	REFUSE(s.best = TILE_KERNELS);
	REFUSE(s.best = 255);
	REFUSE(s.best = 3); /* not the least cost */
	REFUSE(s.cost[1] = 0);
	REFUSE(s.cost[1] = -1);
	REFUSE(s.cost[1] = NAN);
	REFUSE(s.cost[1] = INFINITY);
	REFUSE(s.cost[4] = NAN);
	REFUSE(s.cost[TILE_KERNELS] = 1);
	REFUSE(s.rows = 65);
	REFUSE(s.from_step = 200);
	REFUSE(s.to_pages = 3);
#undef REFUSE
	CHECK(!mematlas_kernel_name(MEMATLAS_WORK_TILES, -1));
	CHECK(!mematlas_kernel_name(MEMATLAS_WORK_TILES, 16));
	CHECK(!mematlas_kernel_name(-1, 0) && !mematlas_kernel_name(MEMATLAS_WORK_READ + 6, 0));
}

/* More classes than there is room for: the oldest goes. */
static void test_the_table_is_bounded(void)
{
	static struct mematlas_kernel_choice kept[1000];
	struct mematlas_kernel_choice each = sample();
	unsigned latest = 0;

	mematlas_kernel_choices_clear();
	for (unsigned i = 0; i < 600; i++) {
		each.rows = (uint8_t)(i % 60);
		each.columns = (uint8_t)(i / 60);
		CHECK(mematlas_kernel_choice_add(&each) == 0);
		CHECK(mematlas_kernel_choice_add(&each) == 0); /* no second entry */
	}
	uint32_t count = mematlas_kernel_choices(kept, 1000);
	CHECK(count == 256);
	for (uint32_t i = 0; i < count; i++) {
		latest += kept[i].columns == 9;
		CHECK(kept[i].columns >= 5);
	}
	CHECK(latest == 60);
	CHECK(mematlas_kernel_choices(kept, 0) == 256);
	mematlas_kernel_choices_clear();
}

static void *transpose_often(void *failed)
{
	static const uint64_t side = 200;
	double *from = aligned_alloc(64, side * side * 8), *to = aligned_alloc(64, side * side * 8);
	uint64_t ns;

	CHECK(from && to);
	for (uint64_t i = 0; i < side * side; i++)
		from[i] = (double)i;
	for (unsigned round = 0; round < 60; round++) {
		int method = round % 2 ? MEMATLAS_TRANSPOSE_TILES : MEMATLAS_TRANSPOSE_HALVES;
		memset(to, 0, side * side * 8);
		mematlas_transpose(method, (uintptr_t)from, side * 8, (uintptr_t)to, side * 8, side,
				   side, 8, &ns);
		for (uint64_t i = 0; i < side * side; i++)
			*(unsigned *)failed += to[i % side * side + i / side] != from[i];
		if (round % 20 == 7)
			mematlas_kernel_choices_clear();
	}
	free(from);
	free(to);
	return NULL;
}

static void test_threads_choose_at_once(void)
{
	pthread_t threads[3];
	unsigned failed[3] = {0};

	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_create(&threads[i], NULL, transpose_often, &failed[i]) == 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_join(threads[i], NULL) == 0 && failed[i] == 0);
}

static _Atomic bool ends;

static void *add_choices(void *argument)
{
	struct mematlas_kernel_choice each = sample();

	(void)argument;
	for (unsigned i = 0; !ends; i++) {
		each.rows = (uint8_t)(i % 60);
		CHECK(mematlas_kernel_choice_add(&each) == 0);
	}
	return NULL;
}

/* A child does not inherit the lock that another thread held. */
static void test_choices_in_a_forked_child(void)
{
	pthread_t thread;
	int status;

	CHECK(pthread_create(&thread, NULL, add_choices, NULL) == 0);
	for (unsigned i = 0; i < 100; i++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			alarm(60);
			mematlas_kernel_choices_clear();
			_exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	ends = true;
	CHECK(pthread_join(thread, NULL) == 0);
	mematlas_kernel_choices_clear();
}

static void test_pages_of_an_array(void)
{
	size_t length = 16u << 20;
	char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED && madvise(at, length, MADV_NOHUGEPAGE) == 0);
	CHECK(page_kind_of(at, length) == KIND_UNKNOWN); /* not touched */
	memset(at, 1, length);
	CHECK(page_kind_of(at, length) != KIND_HUGE);
	CHECK(page_kind_of(at, 4096) == KIND_UNKNOWN);
	munmap(at, length);
}

int main(void)
{
	test_every_kernel_of_every_width();
	test_every_reader();
	test_the_quicker_is_chosen();
	test_choices_of_others();
	test_unsound_choices_are_refused();
	test_the_table_is_bounded();
	test_threads_choose_at_once();
	test_choices_in_a_forked_child();
	test_pages_of_an_array();
	return 0;
}
