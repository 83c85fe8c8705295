/* The mappings of a process, from /proc/PID/maps or smaps; RSS from statm. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "join.h"

int proc_read(int proc, const char *name, char **ret)
{
	size_t capacity = 64 << 10, length = 0;
	CLEANUP_CLOSE int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;

	*ret = NULL;
	if (fd < 0)
		return -errno;
	for (;;) {
		char *larger = realloc(text, capacity + 1);
		if (!larger)
			return -ENOMEM;
		text = larger;
		ssize_t got;
		while (length < capacity && (got = read(fd, text + length, capacity - length)) > 0)
			length += (size_t)got;
		if (length < capacity)
			break;
		capacity *= 2;
	}
	text[length] = 0;
	if (!length)
		return -ESRCH; /* a process that is gone has no mappings */
	*ret = CLEANUP_KEEP(text);
	return 0;
}

static uint64_t parse_hex(char **at)
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

/* "start-end perms offset major:minor inode   name"; false: not the first line of a mapping. */
static bool parse_head(char *line, struct vma *vma)
{
	char *at = line;

	vma->start = parse_hex(&at);
	if (*at != '-')
		return false;
	at++;
	vma->end = parse_hex(&at);
	if (*at != ' ' || strnlen(at, 6) < 6)
		return false;
	memcpy(vma->permissions, at + 1, 4);
	vma->permissions[4] = 0;
	at += 6;
	vma->file_offset = parse_hex(&at);
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
	if (!ARRAY_RESERVE(vmas->items, vmas->count, vmas->capacity, 512))
		return false;
	vmas->items[vmas->count++] = *vma;
	return true;
}

/* VmFlags: pf and io are device memory, ht is hugetlb. */
static bool has_no_pages(const char *line)
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
		} else if (vmas->count && strncmp(line, "VmFlags:", 8) == 0 && has_no_pages(line)) {
			vmas->items[vmas->count - 1].no_pages = true;
		}
		line = next;
	}
	return 0;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* In maps, device memory and hugetlb look like files. */
static bool may_have_no_pages(const struct vma *vma)
{
	const uint64_t hugetlb = (2u << 20) - 1;

	if (starts_with(vma->name, "/dev/") && !starts_with(vma->name, "/dev/shm/") &&
	    !starts_with(vma->name, "/dev/zero"))
		return true;
	if (starts_with(vma->name, "/anon_hugepage") || starts_with(vma->name, "anon_inode:"))
		return true;
	return *vma->name == '/' && !((vma->start | vma->end | vma->file_offset) & hugetlb);
}

static bool needs_smaps(const struct vmas *vmas)
{
	for (size_t i = 0; i < vmas->count; i++)
		if (may_have_no_pages(&vmas->items[i]))
			return true;
	return false;
}

static int read_as(int proc, const char *file, struct vmas *vmas)
{
	int error = proc_read(proc, file, &vmas->text);

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
	if (error)
		return error;
	struct vmas better = {0};
	if (needs_smaps(vmas) && read_as(proc, "smaps", &better) == 0) {
		vmas_free(vmas);
		*vmas = better;
	}
	if (vmas_name_bss(proc, vmas))
		return 0;
	vmas_free(vmas);
	return -ENOMEM;
}

void vmas_free(struct vmas *vmas)
{
	free(vmas->text);
	free(vmas->items);
	*vmas = (struct vmas){0};
}

int64_t statm_read(int proc)
{
	unsigned long long pages;
	CLEANUP_FREE char *text;
	int error = proc_read(proc, "statm", &text);

	if (error)
		return error;
	int found = sscanf(text, "%*s %llu", &pages);
	return found == 1 ? (int64_t)(pages * page_bytes()) : -ESRCH;
}
