/* The live blocks against an array that is searched, and without memory. */
#include <stddef.h>

#include "check_state.h"
#include "random.h"

#define PLACES 20000u /* where blocks may start */
#define ROUNDS 300000u

int __real_posix_memalign(void **memory, size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

static bool refusing;
static uint64_t seed = 88172645463325252ull;
static uint64_t sizes[PLACES]; /* 0: no block */

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return refusing ? 12 : __real_posix_memalign(memory, alignment, size);
}

/* Dense and sparse memory, two kinds at the same address, addresses that no allocator returns, and the ends of the
 * address space. */
static uint64_t key_at(uint32_t place)
{
	uint64_t address = 0x7f0000000000ull + place * 8ull;
	uint32_t kind = place % 5 ? TRACE_MALLOC : TRACE_PYOBJECT;

	if (place >= PLACES / 2)
		address = 0x1000 + place * 16ull * (1 + place % 3 * 1000ull);
	if (place >= PLACES - 1000)
		return BLOCK_KEY((place % 1000) * 8ull / 3 + 1,
				 place % 2 ? TRACE_MALLOC : TRACE_PYOBJECT);
	if (place == 0)
		return BLOCK_KEY((1ull << ADDRESS_BITS) - 1, TRACE_PYOBJECT);
	return BLOCK_KEY(address, kind);
}

static struct block block_of(uint32_t place)
{
	return block_make(key_at(place), sizes[place], place, place & 1, 64ull * place);
}

static bool is_same(const struct block *a, const struct block *b)
{
	return a->key == b->key && a->info.size == b->info.size && a->info.stats == b->info.stats &&
	       a->info.always == b->info.always && block_born(&a->info) == block_born(&b->info);
}

static void add(struct blocks *blocks, uint32_t place)
{
	struct block before = block_of(place), replaced;
	bool was = sizes[place] != 0;
	uint64_t size = 1 + random_next(&seed) % 100000, kept = sizes[place];

	sizes[place] = size;
	struct block block = block_of(place);
	if (!blocks_add(blocks, &block, &replaced)) {
		CHECK(refusing && !was);
		sizes[place] = kept;
		return;
	}
	CHECK(was ? is_same(&replaced, &before) : replaced.key == 0);
}

static void take(struct blocks *blocks, uint32_t place)
{
	struct block expected = block_of(place), found = {0}, removed = {0};
	bool is = sizes[place] != 0;

	CHECK(blocks_find(blocks, expected.key, &found) == is);
	CHECK(blocks_remove(blocks, expected.key, &removed) == is);
	CHECK(!is || (is_same(&found, &expected) && is_same(&removed, &expected)));
	CHECK(!blocks_find(blocks, expected.key, &found));
	sizes[place] = 0;
}

static void check_all(const struct blocks *blocks)
{
	struct blocks_cursor cursor = {0};
	const struct block_info *info;
	uint64_t key, live = 0, seen = 0;
	const char *wrong = blocks_check(blocks);

	CHECK(!wrong);
	for (uint32_t place = 0; place < PLACES; place++)
		live += sizes[place] != 0;
	while ((info = blocks_next(blocks, &cursor, &key))) {
		struct block block = {key, *info}, expected = block_of(info->stats);
		CHECK(sizes[info->stats] && is_same(&block, &expected));
		seen++;
	}
	CHECK(live == blocks->count && seen == live);
}

/* Grows and shrinks, so that cells of all classes come and go. */
static void run(struct blocks *blocks)
{
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t place = (uint32_t)(random_next(&seed) % PLACES);
		bool grows = round / (ROUNDS / 6) % 2 == 0;
		if (random_next(&seed) % 10 < (grows ? 7 : 2))
			add(blocks, place);
		else
			take(blocks, place);
		block_prefetch(blocks, key_at(place));
		block_prefetch_cell(blocks, key_at(place));
		if (round % (ROUNDS / 20) == 0)
			check_all(blocks);
	}
}

static void test_copy(struct blocks *blocks)
{
	struct blocks copy, none = {0};

	CHECK(blocks_copy(&copy, &none) == 0 && !copy.mask && !copy.count);
	refusing = true;
	CHECK(blocks_copy(&copy, blocks) < 0 && !copy.mask && !copy.count);
	refusing = false;
	CHECK(blocks_copy(&copy, blocks) == 0);
	check_all(&copy);
	for (uint32_t place = 0; place < PLACES; place++)
		if (sizes[place] && place % 2)
			take(&copy, place);
	check_all(&copy);
	blocks_free(&copy);
}

int main(void)
{
	struct blocks blocks = {0};

	run(&blocks);
	refusing = true;
	run(&blocks);
	refusing = false;
	run(&blocks);
	check_all(&blocks);
	test_copy(&blocks);
	blocks_free(&blocks);
	CHECK(!blocks.mask && !blocks.count && !blocks.chunks);
	puts("ok");
	return 0;
}
