/* The readers of /proc on this process and on malformed text. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../proc/maps.h"
#include "../proc/page_size.h"
#include "check.h"
#include "mematlas.h"

#define PAGE page_bytes()

/* The invariants of struct mematlas_maps. */
static void check_maps(const struct mematlas_maps *maps)
{
	const uint64_t *start = maps->base[MEMATLAS_MAPS_START];
	const uint64_t *end = maps->base[MEMATLAS_MAPS_END];
	uint64_t overlaps = 0;

	CHECK(maps->count <= maps->capacity && maps->names_size <= maps->names_capacity);
	CHECK(maps->key_count <= MAPS_KEYS && maps->flag_count <= MAPS_FLAGS);
	for (uint64_t row = 1; row < maps->count; row++) {
		CHECK(start[row - 1] < start[row]);
		overlaps += end[row - 1] > start[row];
	}
	CHECK(overlaps <= maps->overlaps);
}

static struct mematlas_maps *parse(const char *text, size_t length)
{
	struct mematlas_maps *maps = NULL;
	FILE *file = tmpfile();

	CHECK(file && fwrite(text, 1, length, file) == length);
	rewind(file);
	CHECK(mematlas_maps_create(fileno(file), &maps) == 0);
	check_maps(maps);
	fclose(file);
	return maps;
}

static void test_cut_anywhere(void)
{
	static const char text[] = "1000-3000 rw-p 00000000 00:00 0     /a b\nRss:     8 kB\n"
				   "VmFlags: rd wr\n3000-4000 r-xs 00001000 fd:01 7\nRss:";

	for (size_t length = 0; length < sizeof(text); length++) {
		struct mematlas_maps_sizes sizes;
		struct mematlas_maps *maps = parse(text, length);

		mematlas_maps_sizes(maps, &sizes);
		CHECK(sizes.count <= 2 && sizes.keys <= 1);
		CHECK(mematlas_maps_values(maps, sizes.keys) == NULL);
		mematlas_maps_destroy(maps);
	}
}

static void test_own_smaps(void)
{
	struct mematlas_maps_sizes sizes;
	struct mematlas_maps *maps = NULL;
	int fd = open("/proc/self/smaps", O_RDONLY);
	const uint64_t *start, *end;

	CHECK(fd >= 0 && mematlas_maps_create(fd, &maps) == 0);
	close(fd);
	mematlas_maps_sizes(maps, &sizes);
	start = mematlas_maps_base(maps, MEMATLAS_MAPS_START);
	end = mematlas_maps_base(maps, MEMATLAS_MAPS_END);
	CHECK(sizes.count > 5 && sizes.ignored == 0);
	for (uint64_t row = 0; row < sizes.count; row++)
		CHECK(start[row] < end[row] && (row == 0 || end[row - 1] <= start[row]));
	mematlas_maps_destroy(maps);
	mematlas_maps_destroy(NULL);
}

static void test_join(void)
{
	uint64_t words[100], entries[4], found[4], *column = found;
	char name[] = "/tmp/mematlas-scan-XXXXXX";
	int fd = mkstemp(name);

	for (uint64_t at = 0; at < 100; at++)
		words[at] = at * 10;
	CHECK(write(fd, words, sizeof(words)) == (ssize_t)sizeof(words));
	entries[0] = 1ULL << 63 | 42;
	entries[1] = 1ULL << 62 | 42; /* swapped: no frame */
	entries[2] = 1ULL << 63 | 1ULL << 40; /* device memory beyond the table */
	entries[3] = 1ULL << 63 | 99;
	CHECK(mematlas_frames_join(entries, 4, &fd, &column, 1, -1) == 2);
	CHECK(found[0] == 420 && found[1] == 0 && found[2] == MEMATLAS_MAPS_ABSENT);
	CHECK(found[3] == 990);
	CHECK(mematlas_frames_join(entries, 0, &fd, &column, 1, -1) == 0);
	close(fd);
	unlink(name);
}

static void test_pagemap(void)
{
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entries[4];

	CHECK(at != MAP_FAILED && fd >= 0);
	at[PAGE] = 1;
	CHECK(mematlas_pagemap_read(fd, (uint64_t)(uintptr_t)at, 4, entries) == 4);
	CHECK(!(entries[0] >> 63) && entries[1] >> 63 && !(entries[3] >> 63));
	CHECK(mematlas_pagemap_read(fd, 1, 1, entries) < 0);
	close(fd);
	munmap(at, 4 * PAGE);
}

int main(void)
{
	test_cut_anywhere();
	test_own_smaps();
	test_join();
	test_pagemap();
	return 0;
}
