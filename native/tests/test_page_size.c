/* Figures that the kernel counts in pages, on a kernel with pages of 64 KiB. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "../collector/join.h"
#include "check.h"
#include "fake_page_size.h"

#define KIB 1024u

static void test_rounding(void)
{
	CHECK(page_bytes() == 64 * KIB && pmd_bytes() == 512ull * KIB * KIB);
	CHECK(page_floor(64 * KIB + 1) == 64 * KIB && page_floor(64 * KIB - 1) == 0);
	CHECK(page_ceil(64 * KIB + 1) == 128 * KIB && page_ceil(64 * KIB) == 64 * KIB);
}

static void test_statm(void)
{
	char directory[] = "/tmp/mematlas-page-size-XXXXXX";

	CHECK(mkdtemp(directory));
	int proc = open(directory, O_RDONLY | O_DIRECTORY);
	int fd = openat(proc, "statm", O_WRONLY | O_CREAT, 0600);
	CHECK(dprintf(fd, "900 50 30 10 0 100 0\n") > 0);
	close(fd);
	CHECK(statm_read(proc) == 50 * 64 * KIB);
	CHECK(unlinkat(proc, "statm", 0) == 0 && rmdir(directory) == 0);
	close(proc);
}

int main(void)
{
	test_rounding();
	test_statm();
	return 0;
}
