/* The memory of a child that is stopped, as ranges of an image. */
#ifndef MEMATLAS_TESTS_CAPTURE_H
#define MEMATLAS_TESTS_CAPTURE_H

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "mematlas.h"

#define MOST_RANGES 4096

struct capture {
	struct mematlas_heap_range ranges[MOST_RANGES];
	uint64_t count;
};

static inline uint32_t capture_kind(const char *permissions, const char *path, uint32_t before)
{
	if (permissions[1] != 'w')
		return MEMATLAS_HEAP_CODE;
	if (permissions[3] == 's')
		return MEMATLAS_HEAP_SHARED;
	if (!strcmp(path, "[heap]"))
		return MEMATLAS_HEAP_BRK;
	if (!strcmp(path, "[stack]"))
		return MEMATLAS_HEAP_STACK;
	return *path == '/' || before == MEMATLAS_HEAP_DATA ? MEMATLAS_HEAP_DATA
							    : MEMATLAS_HEAP_ANONYMOUS;
}

static inline void capture_range(struct capture *capture, int memory, uint64_t start, uint64_t end,
				 uint32_t kind)
{
	struct mematlas_heap_range *range = &capture->ranges[capture->count];
	uint8_t *bytes =
		mmap(NULL, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(bytes != MAP_FAILED && capture->count < MOST_RANGES);
	/* Guard pages inside a mapping (MADV_GUARD_INSTALL) cannot be read. */
	for (uint64_t at = start; at < end;) {
		ssize_t size = pread(memory, bytes + (at - start), end - at, (off_t)at);

		at += size > 0 ? (uint64_t)size : 4096;
	}
	*range = (struct mematlas_heap_range){
		.start = start, .size = end - start, .bytes = bytes, .kind = kind};
	capture->count++;
}

static inline void capture_memory(struct capture *capture, int pid)
{
	char path[64], line[512];
	uint64_t before_end = 0;
	uint32_t before = MEMATLAS_HEAP_CODE;
	FILE *maps;
	int memory;

	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	memory = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	CHECK(maps && memory >= 0);
	capture->count = 0;
	while (fgets(line, sizeof line, maps)) {
		unsigned long start, end, inode;
		char permissions[8], name[256] = "";

		CHECK(sscanf(line, "%lx-%lx %7s %*s %*s %lu %255s", &start, &end, permissions,
			     &inode, name) >= 4);
		if (permissions[0] != 'r' || !strncmp(name, "[v", 2))
			continue;
		before = capture_kind(permissions, name,
				      start == before_end && !*name ? before : MEMATLAS_HEAP_CODE);
		before_end = end;
		capture_range(capture, memory, start, end, before);
	}
	fclose(maps);
	close(memory);
}

static inline void capture_release(struct capture *capture)
{
	for (uint64_t i = 0; i < capture->count; i++)
		munmap((void *)(uintptr_t)capture->ranges[i].bytes, capture->ranges[i].size);
}

/* A child that waits, with this process's memory. */
static inline int capture_fork(struct capture *capture)
{
	int pid = fork();

	CHECK(pid >= 0);
	if (!pid)
		for (;;)
			pause();
	capture_memory(capture, pid);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	return pid;
}

/* Ranges and bytes in a file, without what is not writable. */
static inline void capture_save(const struct capture *capture, const char *path)
{
	FILE *file = fopen(path, "we");

	CHECK(file);
	for (uint64_t i = 0; i < capture->count; i++) {
		const struct mematlas_heap_range *range = &capture->ranges[i];

		if (range->kind == MEMATLAS_HEAP_CODE)
			continue;
		CHECK(fwrite(range, sizeof *range, 1, file) == 1);
		CHECK(fwrite(range->bytes, range->size, 1, file) == 1);
	}
	CHECK(fclose(file) == 0);
}

static inline void capture_load(struct capture *capture, const char *path)
{
	FILE *file = fopen(path, "re");
	struct mematlas_heap_range range;

	CHECK(file);
	capture->count = 0;
	while (fread(&range, sizeof range, 1, file) == 1) {
		/* As large as the range: a sanitizer sees a read behind the end. */
		uint8_t *bytes = malloc(range.size);

		CHECK(bytes && capture->count < MOST_RANGES);
		CHECK(fread(bytes, range.size, 1, file) == 1);
		range.bytes = bytes;
		capture->ranges[capture->count++] = range;
	}
	fclose(file);
}

#endif
