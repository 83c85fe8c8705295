/* What each mapping is: which part of the account, or which pool of an allocator, its pages go to. */
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

#define ARENA_ALIGN (64ull << 20)

uint32_t part_index(struct join *join, uint32_t kind, const char *name)
{
	struct mematlas_collector *collector = join->collector;

	for (uint32_t i = collector->part_count; i-- > 0;)
		if (collector->parts[i].kind == kind &&
		    strncmp(collector->parts[i].name, name, sizeof collector->parts[i].name - 1) ==
			    0)
			return i;
	if (collector->part_count == collector->part_room) {
		uint32_t room = collector->part_room ? collector->part_room * 2 : 64;
		struct mematlas_part *parts = realloc(collector->parts, room * sizeof *parts);
		if (!parts) {
			join->failed = true;
			return 0;
		}
		collector->parts = parts;
		collector->part_room = room;
	}
	struct mematlas_part *part = &collector->parts[collector->part_count];
	memset(part, 0, sizeof *part);
	part->kind = kind;
	strncpy(part->name, name, sizeof part->name - 1);
	return collector->part_count++;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The session's last directory name is random enough to be told from any other. */
bool is_session_file(const struct mematlas_collector *collector, const char *name)
{
	const char *base = strrchr(collector->directory, '/');

	base = base ? base : collector->directory;
	const char *found = strstr(name, base);
	return found && found[strlen(base)] == '/';
}

static bool is_tracer_library(const char *name)
{
	const char *base = strrchr(name, '/');

	return base && starts_with(base, "/libmematlas_trace.so");
}

static bool is_shared_memory(const struct vma *vma)
{
	return starts_with(vma->name, "/memfd:") || starts_with(vma->name, "/SYSV") ||
	       starts_with(vma->name, "/dev/shm/") || starts_with(vma->name, "/dev/zero") ||
	       (vma->permissions[3] == 's' && *vma->name != '/');
}

/* A glibc arena: 64 MiB-aligned, the part not yet used put aside behind it. */
static bool is_glibc_arena(const struct vmas *vmas, size_t i)
{
	const struct vma *vma = &vmas->items[i], *next = vma + 1;

	if (vma->start % ARENA_ALIGN || strncmp(vma->permissions, "rw", 2) != 0)
		return false;
	if (vma->end % ARENA_ALIGN == 0)
		return vma->end - vma->start == ARENA_ALIGN;
	return i + 1 < vmas->count && next->start == vma->end && *next->name == 0 &&
	       strncmp(next->permissions, "---", 3) == 0 && next->end % ARENA_ALIGN == 0;
}

static bool was_seen(const struct process *process, uint64_t start)
{
	for (size_t i = 0; i < process->seen_count; i++)
		if (process->seen_vmas[i] == start)
			return true;
	return false;
}

/* Do blocks lie in this mapping, or did they at an earlier join? */
static bool holds_blocks(struct join *join, const struct vma *vma)
{
	struct process *process = join->process;
	uint64_t end = vma->end, at = vma->start;

	if (was_seen(process, vma->start))
		return true;
	if (!span_at(&join->blocks, at, &end) && end == vma->end)
		return false;
	if (process->seen_count == process->seen_room) {
		size_t room = process->seen_room ? process->seen_room * 2 : 64;
		uint64_t *seen = realloc(process->seen_vmas, room * sizeof *seen);
		if (!seen)
			return true;
		process->seen_vmas = seen;
		process->seen_room = room;
	}
	process->seen_vmas[process->seen_count++] = vma->start;
	return true;
}

static struct place place_unnamed(struct join *join, size_t i, const struct place *before)
{
	const struct vma *vma = &join->vmas.items[i];
	struct place place = {.anonymous = true, .part = NO_PART};

	if (is_glibc_arena(&join->vmas, i)) {
		place.pool = POOL_ARENA;
	} else if (i > 0 && vma[-1].end == vma->start && vma[-1].inode && before->part != NO_PART) {
		place.part = before->part; /* the .bss behind the file it belongs to */
	} else if (holds_blocks(join, vma)) {
		place.pool = POOL_MAPPED;
	} else {
		place.part = join->anon_part;
	}
	return place;
}

bool part_of_name(const struct mematlas_collector *collector, const struct vma *vma,
		  struct mematlas_part *part)
{
	const char *name = vma->name;
	uint32_t kind = MEMATLAS_PART_FILE;

	if (is_session_file(collector, name) || is_tracer_library(name) ||
	    starts_with(name, "[anon:mematlas")) {
		kind = MEMATLAS_PART_TRACER;
		name = "mematlas";
	} else if (strcmp(name, "[stack]") == 0) {
		kind = MEMATLAS_PART_STACK;
		name = "main thread";
	} else if (is_shared_memory(vma)) {
		kind = MEMATLAS_PART_SHARED;
		if (!*name || starts_with(name, "/dev/zero"))
			name = "anonymous";
	} else if (*name != '/' && strcmp(name, "[vdso]") != 0) {
		if (!*name || strcmp(name, "[heap]") == 0)
			return false;
		kind = MEMATLAS_PART_ANON;
	}
	memset(part, 0, sizeof *part);
	part->kind = kind;
	strncpy(part->name, name, sizeof part->name - 1);
	return true;
}

struct place place_of(struct join *join, size_t i, const struct place *before)
{
	const struct vma *vma = &join->vmas.items[i];
	struct mematlas_part part;

	if (strcmp(vma->name, "[heap]") == 0)
		return (struct place){POOL_HEAP, NO_PART, false};
	if (!part_of_name(join->collector, vma, &part))
		return place_unnamed(join, i, before);
	if (part.kind == MEMATLAS_PART_TRACER)
		return (struct place){POOL_NONE, join->tracer_part, false};
	struct place place = {POOL_NONE, part_index(join, part.kind, part.name), false};
	place.anonymous = part.kind == MEMATLAS_PART_ANON;
	return place;
}
