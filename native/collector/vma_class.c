/* Classifies mappings: the part of the account, or the pool of an allocator, that their pages
 * belong to. */
#include <stdlib.h>
#include <string.h>

#include "../array.h"
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
	if (!ARRAY_RESERVE(collector->parts, collector->part_count, collector->part_capacity, 64)) {
		join->failed = true;
		return 0;
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

/* All memory of a session is named like its socket, which is random. */
bool is_session_memory(const struct mematlas_collector *collector, const char *name)
{
	return starts_with(name, "/memfd:") &&
	       starts_with(name + strlen("/memfd:"), collector->broker.name);
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

/* A glibc arena is aligned to 64 MiB; its unused rest is PROT_NONE behind the used part. */
bool is_glibc_arena(const struct vmas *vmas, size_t i)
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

/* A mapping that held blocks at an earlier join keeps its class when they are freed. */
static bool holds_blocks(struct join *join, const struct vma *vma)
{
	struct process *process = join->process;
	uint64_t end = vma->end, at = vma->start;

	if (was_seen(process, vma->start))
		return true;
	if (!span_at(&join->blocks, at, &end) && end == vma->end)
		return false;
	if (ARRAY_RESERVE(process->seen_vmas, process->seen_count, process->seen_capacity, 64))
		process->seen_vmas[process->seen_count++] = vma->start;
	return true;
}

static struct vma_class classify_unnamed(struct join *join, size_t i)
{
	const struct vma *vma = &join->vmas.items[i];
	struct vma_class class = {.anonymous = true, .part = NO_PART};

	if (is_glibc_arena(&join->vmas, i)) {
		class.pool = POOL_ARENA;
	} else if (holds_blocks(join, vma)) {
		class.pool = POOL_MAPPED;
	} else {
		class.part = join->anon_part;
	}
	return class;
}

static bool is_tracer_memory(const struct mematlas_collector *collector, const char *name)
{
	return is_session_memory(collector, name) || is_tracer_library(name) ||
	       starts_with(name, "[anon:mematlas");
}

static uint32_t kind_of_named(const char *name)
{
	if (*name != '/' && strcmp(name, "[vdso]") != 0)
		return MEMATLAS_PART_ANON;
	return MEMATLAS_PART_FILE;
}

bool part_of_name(const struct mematlas_collector *collector, const struct vma *vma,
		  struct mematlas_part *ret)
{
	const char *name = vma->name;
	uint32_t kind = kind_of_named(name);

	if (is_tracer_memory(collector, name)) {
		kind = MEMATLAS_PART_TRACER;
		name = "mematlas";
	} else if (strcmp(name, "[stack]") == 0) {
		kind = MEMATLAS_PART_STACK;
		name = "main thread";
	} else if (vma->bss) {
		kind = MEMATLAS_PART_COPY;
	} else if (is_shared_memory(vma)) {
		kind = MEMATLAS_PART_SHARED;
		if (!*name || starts_with(name, "/dev/zero"))
			name = "anonymous";
	} else if (!*name || strcmp(name, "[heap]") == 0) {
		return false;
	}
	*ret = (struct mematlas_part){.kind = kind};
	strncpy(ret->name, name, sizeof ret->name - 1);
	return true;
}

struct vma_class vma_class_of(struct join *join, size_t i)
{
	const struct vma *vma = &join->vmas.items[i];
	struct mematlas_part part;

	if (strcmp(vma->name, "[heap]") == 0)
		return (struct vma_class){.pool = POOL_HEAP, .part = NO_PART, .anonymous = true};
	if (!part_of_name(join->collector, vma, &part))
		return classify_unnamed(join, i);
	if (part.kind == MEMATLAS_PART_TRACER)
		return (struct vma_class){.part = join->tracer_part};
	struct vma_class class = {.part = part_index(join, part.kind, part.name)};
	if (vma->inode && vma->permissions[3] == 'p')
		class.copies = part_index(join, MEMATLAS_PART_COPY, part.name) + 1;
	class.anonymous = part.kind == MEMATLAS_PART_ANON;
	return class;
}
