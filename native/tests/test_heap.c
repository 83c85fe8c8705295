/* Image, blocks, index of addresses and types of native/heap. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../heap/heap.h"

static uint8_t memory[1 << 16], pages[17];

static struct heap *create(void)
{
	struct mematlas_heap_range ranges[] = {
		{.start = 0x10000, .size = 0x1000, .bytes = memory},
		{.start = 0x11800, .size = sizeof memory, .bytes = memory, .pages = pages},
		{.start = MEMATLAS_HEAP_REGISTERS_START, .size = 16, .bytes = memory},
	};
	struct mematlas_heap *heap;

	CHECK(mematlas_heap_create(ranges, 3, 4096, &heap) == 0);
	ranges[1].start = 0x10800;
	struct mematlas_heap *none;
	CHECK(mematlas_heap_create(ranges, 3, 4096, &none) == -EINVAL);
	return (struct heap *)heap;
}

static void test_image(struct heap *heap)
{
	CHECK(heap_at(&heap->image, 0x10000, 0x1000) == memory);
	CHECK(!heap_at(&heap->image, 0x10000, 0x1001));
	CHECK(!heap_at(&heap->image, 0xFFFF, 1));
	CHECK(!heap_at(&heap->image, 0x11000, 1));
	CHECK(heap_at(&heap->image, 0x11800, 8) == memory);
	CHECK(!heap_at(&heap->image, 0x11800, SIZE_MAX));
	CHECK(heap_at(&heap->image, MEMATLAS_HEAP_REGISTERS_START + 8, 8) == memory + 8);
	pages[0] = 1;
	pages[2] = 1;
	CHECK(heap_resident(&heap->image, 0x10000, 100) == 100);
	CHECK(heap_resident(&heap->image, 0x11800, 0x2000) == 0x800 + 0x800);
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

/* The index against a plain search, with gaps, a block over many windows and neighbours. */
static void test_find(void)
{
	enum { COUNT = 20000 };
	static uint64_t address[COUNT], size[COUNT];
	struct mematlas_heap *handle;
	int missing = 0;

	CHECK(mematlas_heap_create(NULL, 0, 4096, &handle) == 0);
	CHECK(mematlas_heap_index(handle) == 0);
	CHECK(mematlas_heap_find(handle, 0) == HEAP_NONE);
	for (uint64_t i = 0, at = 0x5500001230; i < COUNT; i++) {
		address[i] = at;
		size[i] = i == 7000 ? 100 << 20 : 8 * (1 + (uint64_t)rand() % 40);
		at += size[i] + (i % 3 ? 0 : 8 * ((uint64_t)rand() % 2000));
		if (i == COUNT / 2)
			at += 1ULL << 44;
	}
	for (int i = COUNT - 1; i >= 0; i--)
		CHECK(mematlas_heap_add(handle, &address[i], &size[i], 1, MEMATLAS_HEAP_GLIBC) ==
		      0);
	CHECK(mematlas_heap_index(handle) == COUNT);
	const uint64_t *sorted = mematlas_heap_column(handle, MEMATLAS_HEAP_ADDRESS);
	CHECK(!memcmp(sorted, address, sizeof address));
	qsort(address, COUNT, 8, compare);
	for (uint32_t i = 0; i < COUNT; i++) {
		uint64_t end = address[i] + size[i];

		missing += mematlas_heap_find(handle, address[i]) != i;
		missing += mematlas_heap_find(handle, end - 1) != i;
		missing += mematlas_heap_find(handle, address[i] + size[i] / 2) != i;
		missing += mematlas_heap_find(handle, end) !=
			   (i + 1 < COUNT && address[i + 1] == end ? i + 1 : HEAP_NONE);
	}
	CHECK(missing == 0);
	CHECK(mematlas_heap_find(handle, address[0] - 1) == HEAP_NONE);
	CHECK(mematlas_heap_find(handle, UINT64_MAX) == HEAP_NONE);
	mematlas_heap_destroy(handle);
}

static void test_overlap(void)
{
	struct mematlas_heap *handle;
	const struct mematlas_heap_finding *findings;
	uint64_t total, address[] = {0x1000, 0x1040, 0x1040, 0x2001}, size[] = {0x80, 16, 32, 16};

	CHECK(mematlas_heap_create(NULL, 0, 4096, &handle) == 0);
	CHECK(mematlas_heap_add(handle, address, size, 4, MEMATLAS_HEAP_TRACED) == 0);
	CHECK(mematlas_heap_index(handle) == 2);
	CHECK(((const uint64_t *)mematlas_heap_column(handle, MEMATLAS_HEAP_SIZE))[0] == 0x40);
	CHECK(mematlas_heap_findings(handle, &total, &findings) == 2 && total == 2);
	CHECK(findings[0].kind == MEMATLAS_HEAP_OVERLAP && findings[0].address == 0x1040);
	CHECK(heap_subdivide((struct heap *)handle, &(struct heap_span){0x1000, 0x1040}, 1) == 0);
	CHECK(mematlas_heap_index(handle) == 1);
	mematlas_heap_destroy(handle);
}

static void test_types(struct heap *heap)
{
	CHECK(heap_type(heap, MEMATLAS_HEAP_TYPE_UNKNOWN, 0) == 0);
	for (uint64_t i = 1; i < 1000; i++)
		CHECK(heap_type(heap, MEMATLAS_HEAP_TYPE_CPP, i * 64) == (int64_t)i);
	for (uint64_t i = 1; i < 1000; i++)
		CHECK(heap_type(heap, MEMATLAS_HEAP_TYPE_CPP, i * 64) == (int64_t)i);
	CHECK(heap_type(heap, MEMATLAS_HEAP_TYPE_VTABLE, 64) == 1000);
}

int main(void)
{
	struct heap *heap = create();

	test_image(heap);
	test_types(heap);
	mematlas_heap_destroy((struct mematlas_heap *)heap);
	test_find();
	test_overlap();
	return 0;
}
