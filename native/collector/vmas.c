/* /proc/PID/maps, read and parsed in one pass. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "join.h"

static int read_whole(int proc, const char *name, char **text)
{
	size_t room = 64 << 10, length = 0;
	int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);

	*text = NULL;
	if (fd < 0)
		return -errno;
	for (;;) {
		char *larger = realloc(*text, room + 1);
		if (!larger) {
			close(fd);
			free(*text);
			*text = NULL;
			return -ENOMEM;
		}
		*text = larger;
		ssize_t got;
		while (length < room && (got = read(fd, *text + length, room - length)) > 0)
			length += (size_t)got;
		if (length < room)
			break;
		room *= 2;
	}
	close(fd);
	(*text)[length] = 0;
	return length ? 0 : -ESRCH; /* a process that is gone has no mappings */
}

static uint64_t take_hex(char **at)
{
	uint64_t value = 0;

	for (;; (*at)++) {
		unsigned c = (unsigned char)**at;
		if (c >= '0' && c <= '9')
			value = value << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (c - 'a' + 10);
		else
			return value;
	}
}

/* "start-end perms offset major:minor inode   name"; false: another line of smaps. */
static bool parse_head(char *line, struct vma *vma)
{
	char *at = line;

	vma->start = take_hex(&at);
	if (*at != '-')
		return false;
	at++;
	vma->end = take_hex(&at);
	if (*at != ' ' || strnlen(at, 6) < 6)
		return false;
	memcpy(vma->permissions, at + 1, 4);
	vma->permissions[4] = 0;
	at += 6;
	vma->file_offset = take_hex(&at);
	while (*at == ' ')
		at++;
	while (*at && *at != ' ')
		at++;
	vma->inode = strtoull(at, &at, 10);
	while (*at == ' ')
		at++;
	vma->name = at;
	vma->no_pages = strncmp(at, "[vvar", 5) == 0 || strcmp(at, "[vsyscall]") == 0;
	return true;
}

static bool add_vma(struct vmas *vmas, const struct vma *vma)
{
	if (vmas->count == vmas->room) {
		size_t room = vmas->room ? vmas->room * 2 : 512;
		struct vma *items = realloc(vmas->items, room * sizeof *items);
		if (!items)
			return false;
		vmas->items = items;
		vmas->room = room;
	}
	vmas->items[vmas->count++] = *vma;
	return true;
}

/* VmFlags: pf and io are device memory, ht is hugetlb. */
static bool flags_say_no_pages(const char *line)
{
	return strstr(line, " pf") || strstr(line, " io") || strstr(line, " ht");
}

static int parse(struct vmas *vmas)
{
	char *line = vmas->text;

	while (*line) {
		char *end = strchrnul(line, '\n');
		char *next = *end ? end + 1 : end;
		struct vma vma = {0};
		*end = 0;
		if (parse_head(line, &vma)) {
			if (!add_vma(vmas, &vma))
				return -ENOMEM;
		} else if (vmas->count && strncmp(line, "VmFlags:", 8) == 0 &&
			   flags_say_no_pages(line)) {
			vmas->items[vmas->count - 1].no_pages = true;
		}
		line = next;
	}
	return 0;
}

/* Device files and hugetlb look like any file in maps; smaps tells. */
static bool needs_smaps(const struct vmas *vmas)
{
	const uint64_t huge = (2u << 20) - 1;

	for (size_t i = 0; i < vmas->count; i++) {
		const struct vma *vma = &vmas->items[i];
		if (strncmp(vma->name, "/dev/", 5) == 0 &&
		    strncmp(vma->name, "/dev/shm/", 9) != 0 &&
		    strncmp(vma->name, "/dev/zero", 9) != 0)
			return true;
		if (strncmp(vma->name, "/anon_hugepage", 14) == 0 ||
		    strncmp(vma->name, "anon_inode:", 11) == 0)
			return true;
		if (*vma->name == '/' && !((vma->start | vma->end | vma->file_offset) & huge))
			return true;
	}
	return false;
}

static int read_as(int proc, const char *file, struct vmas *vmas)
{
	int error = read_whole(proc, file, &vmas->text);

	if (!error)
		error = parse(vmas);
	if (!error && vmas->count == 0)
		error = -ESRCH;
	if (error)
		vmas_free(vmas);
	return error;
}

int vmas_read(int proc, struct vmas *vmas)
{
	*vmas = (struct vmas){0};
	int error = read_as(proc, "maps", vmas);
	if (error || !needs_smaps(vmas))
		return error;
	struct vmas better = {0};
	if (read_as(proc, "smaps", &better) == 0) {
		vmas_free(vmas);
		*vmas = better;
	}
	return 0;
}

void vmas_free(struct vmas *vmas)
{
	free(vmas->text);
	free(vmas->items);
	*vmas = (struct vmas){0};
}

static int64_t field_of(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line ? (int64_t)strtoull(line + strlen(name), NULL, 10) * 1024 : -ESRCH;
}

int64_t rollup_read(int proc, int64_t *huge)
{
	static const char *const mapped[] = {
		"\nAnonHugePages:", "\nShmemPmdMapped:", "\nFilePmdMapped:"};
	char *text;
	int error = read_whole(proc, "smaps_rollup", &text);

	if (error)
		return error;
	int64_t rss = field_of(text, "\nRss:");
	*huge = 0;
	for (unsigned i = 0; i < sizeof mapped / sizeof *mapped; i++) {
		int64_t bytes = field_of(text, mapped[i]);
		if (bytes > 0) /* the last since Linux 5.4 */
			*huge += bytes;
	}
	free(text);
	return rss;
}

int64_t statm_read(int proc)
{
	unsigned long long pages;
	char *text;
	int error = read_whole(proc, "statm", &text);

	if (error)
		return error;
	int found = sscanf(text, "%*s %llu", &pages);
	free(text);
	return found == 1 ? (int64_t)(pages * page_bytes()) : -ESRCH;
}
