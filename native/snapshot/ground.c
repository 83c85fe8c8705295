/* Finds two instruction sequences that every program with a C library has. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "../proc/maps.h"
#include "userfault.h"

#define WINDOW (256u << 10)
#define MOST_BYTES (64ull << 20) /* of code that is searched */

static const uint8_t call[] = {0x0f, 0x05, 0xc3};
static const uint8_t restore[] = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05};
static const uint8_t short_restore[] = {0xb8, 15, 0, 0, 0, 0x0f, 0x05};

static uint64_t find(const uint8_t *code, size_t size, uint64_t address, const uint8_t *wanted,
		     size_t length)
{
	const uint8_t *at = memmem(code, size, wanted, length);

	return at ? address + (uint64_t)(at - code) : 0;
}

static void look(const uint8_t *code, size_t size, uint64_t address, struct ground *ret)
{
	if (!ret->system_call)
		ret->system_call = find(code, size, address, call, sizeof call);
	if (!ret->restorer)
		ret->restorer = find(code, size, address, restore, sizeof restore);
	if (!ret->restorer)
		ret->restorer = find(code, size, address, short_restore, sizeof short_restore);
}

static bool is_complete(const struct ground *ground)
{
	return ground->system_call && ground->restorer;
}

/* Windows overlap by what may straddle two. */
static void search(int pid, uint64_t start, uint64_t end, uint8_t *window, struct ground *ret)
{
	while (start < end && !is_complete(ret)) {
		uint64_t size = end - start < WINDOW ? end - start : WINDOW;
		int64_t got = mematlas_process_read(pid, start, window, size);
		if (got <= (int64_t)sizeof restore)
			return;
		look(window, (size_t)got, start, ret);
		start += (uint64_t)got - (start + (uint64_t)got < end ? sizeof restore : 0);
	}
}

static bool is_library(const struct mematlas_maps *maps, uint64_t i)
{
	const char *name = maps->names + maps->base[MEMATLAS_MAPS_NAME_AT][i];
	size_t length = maps->base[MEMATLAS_MAPS_NAME_LENGTH][i];

	return memmem(name, length, "/libc.", 6) || memmem(name, length, "/libc-", 6) ||
	       memmem(name, length, "/ld-musl", 8) || memmem(name, length, "/libpthread", 11);
}

/* The C library first: a large program is searched only if it is linked in. */
static void search_all(int pid, const struct mematlas_maps *maps, bool libraries, uint8_t *window,
		       struct ground *ret)
{
	uint64_t searched = 0;

	for (uint64_t i = 0; i < maps->count && searched < MOST_BYTES; i++) {
		uint64_t start = maps->base[MEMATLAS_MAPS_START][i];
		uint64_t end = maps->base[MEMATLAS_MAPS_END][i];
		if (!(maps->base[MEMATLAS_MAPS_PERMISSIONS][i] & MEMATLAS_MAPS_EXECUTE) ||
		    !maps->base[MEMATLAS_MAPS_INODE][i] || is_library(maps, i) != libraries)
			continue;
		if (end - start > MOST_BYTES - searched)
			end = start + (MOST_BYTES - searched);
		search(pid, start, end, window, ret);
		searched += end - start;
	}
}

/* The mappings of a process that has ended, reaped or not, are none. */
static bool has_ended(int pid)
{
	char path[32], byte;

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || read(fd, &byte, 1) <= 0;
}

int ground_read(struct ground *ground, int pid)
{
	*ground = (struct ground){.pid = pid};
	int error = maps_of_process(pid, &ground->maps);
	if (!error)
		error = mematlas_target_create(pid, &ground->code);
	if (error)
		return error;
	CLEANUP_FREE uint8_t *window = malloc(WINDOW);
	if (!window)
		return -ENOMEM;
	search_all(pid, ground->maps, true, window, ground);
	if (!is_complete(ground))
		search_all(pid, ground->maps, false, window, ground);
	if (is_complete(ground))
		return 0;
	return has_ended(pid) ? -ESRCH : -ENOSYS;
}

void ground_free(struct ground *ground)
{
	mematlas_maps_destroy(ground->maps);
	mematlas_target_destroy(ground->code);
	*ground = (struct ground){0};
}
