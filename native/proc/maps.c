/* Reads maps or smaps in one pass into columns. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "maps.h"

/* The kernel returns about a page per read(2); no line is nearly as long. */
#define BUFFER (64 * 1024)

/* Parses the whole lines in the buffer and moves the rest to its start. */
static int parse_lines(struct mematlas_maps *maps, char *buffer, size_t *held)
{
	const char *line = buffer, *end = buffer + *held, *next;

	for (;;) {
		while ((next = maps_parse_field(maps, line, end)))
			line = next;
		next = memchr(line, '\n', (size_t)(end - line));
		if (!next)
			break;
		int error = maps_parse_line(maps, line, next);
		if (error)
			return error;
		line = next + 1;
	}
	*held = (size_t)(end - line);
	memmove(buffer, line, *held);
	return 0;
}

static int read_all(struct mematlas_maps *maps, int fd, char *buffer)
{
	size_t held = 0;

	for (;;) {
		ssize_t got = read(fd, buffer + held, BUFFER - held);
		int error;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0) /* a captured file may be truncated, without a newline at its end */
			return held ? maps_parse_line(maps, buffer, buffer + held) : 0;
		held += (size_t)got;
		error = parse_lines(maps, buffer, &held);
		if (error)
			return error;
		if (held == BUFFER) /* a line that long is none of the kernel */
			return -EOVERFLOW;
	}
}

/* Reads from the descriptor's position to its end; the descriptor stays the caller's. -ESRCH and
 * others of read(2): the process is gone. */
int mematlas_maps_create(int fd, struct mematlas_maps **ret)
{
	struct mematlas_maps *maps = calloc(1, sizeof(*maps));
	CLEANUP_FREE char *buffer = malloc(BUFFER);
	int error = maps && buffer ? read_all(maps, fd, buffer) : -ENOMEM;

	if (error) {
		mematlas_maps_destroy(maps);
		return error;
	}
	*ret = maps;
	return 0;
}

int maps_of_process(int pid, struct mematlas_maps **ret)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : mematlas_maps_create(fd, ret);
}

void mematlas_maps_destroy(struct mematlas_maps *maps)
{
	if (!maps)
		return;
	for (int column = 0; column < MEMATLAS_MAPS_BASE; column++)
		free(maps->base[column]);
	for (uint32_t key = 0; key < maps->key_count; key++)
		free(maps->keys[key].values);
	free(maps->names);
	free(maps);
}

void mematlas_maps_sizes(const struct mematlas_maps *maps, struct mematlas_maps_sizes *ret)
{
	*ret = (struct mematlas_maps_sizes){
		.count = maps->count,
		.names = maps->names_size,
		.overlaps = maps->overlaps,
		.ignored = maps->ignored,
		.keys = maps->key_count,
		.flags = maps->flag_count,
	};
}

const uint64_t *mematlas_maps_base(const struct mematlas_maps *maps, int column)
{
	return column >= 0 && column < MEMATLAS_MAPS_BASE ? maps->base[column] : NULL;
}

const uint64_t *mematlas_maps_values(const struct mematlas_maps *maps, uint32_t key)
{
	return key < maps->key_count ? maps->keys[key].values : NULL;
}

const char *mematlas_maps_key(const struct mematlas_maps *maps, uint32_t key)
{
	return key < maps->key_count ? maps->keys[key].name : NULL;
}

const char *mematlas_maps_flag(const struct mematlas_maps *maps, uint32_t flag)
{
	return flag < maps->flag_count ? maps->flags[flag] : NULL;
}

const char *mematlas_maps_names(const struct mematlas_maps *maps)
{
	return maps->names;
}
