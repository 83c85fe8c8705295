/* Which mappings are copied: private memory that the program can have written. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../array.h"
#include "../proc/maps.h"
#include "../proc/page_size.h"
#include "image.h"

#define RED_ZONE 128u
#define THREAD_DESCRIPTOR 2048u /* less than struct pthread, which lies behind the thread pointer */
#define MOST_BYTES (1ull << 38) /* larger ones are shadow memory of sanitizers */
#define HUGE_STACK (1ull << 30)

struct row {
	uint64_t start, end, permissions, inode;
	const char *name;
	size_t length;
};

static struct row row_of(const struct mematlas_maps *maps, uint64_t i)
{
	return (struct row){
		.start = maps->base[MEMATLAS_MAPS_START][i],
		.end = maps->base[MEMATLAS_MAPS_END][i],
		.permissions = maps->base[MEMATLAS_MAPS_PERMISSIONS][i],
		.inode = maps->base[MEMATLAS_MAPS_INODE][i],
		.name = maps->names + maps->base[MEMATLAS_MAPS_NAME_AT][i],
		.length = maps->base[MEMATLAS_MAPS_NAME_LENGTH][i],
	};
}

static bool is_named(const struct row *row, const char *name)
{
	return row->length == strlen(name) && memcmp(row->name, name, row->length) == 0;
}

static bool begins(const struct row *row, const char *name)
{
	return row->length >= strlen(name) && memcmp(row->name, name, strlen(name)) == 0;
}

/* Memory without a file, whatever maps calls it. */
static bool is_anonymous(const struct row *row)
{
	return !row->inode || begins(row, "/anon_hugepage") || begins(row, "/dev/zero");
}

static bool is_of_kernel(const struct row *row)
{
	return begins(row, "[v") || begins(row, "[uprobes]") || begins(row, "[sigpage]") ||
	       row->start >> 63;
}

/* Reading a device's memory may have effects. The kernel refuses most of such reads itself. */
static bool is_device(const struct row *row)
{
	return row->inode && (begins(row, "/dev/") || begins(row, "anon_inode:")) &&
	       !begins(row, "/dev/zero");
}

static bool is_wanted(const struct row *row)
{
	if (!(row->permissions & MEMATLAS_MAPS_READ) || (row->permissions & MEMATLAS_MAPS_SHARED) ||
	    is_of_kernel(row) || is_device(row) || row->end - row->start >= MOST_BYTES)
		return false;
	if (row->permissions & MEMATLAS_MAPS_WRITE)
		return true;
	/* Sealed data of a run-time system. Code that was made at run time is left out. */
	return is_anonymous(row) && !(row->permissions & MEMATLAS_MAPS_EXECUTE);
}

static int add_part(struct parts *parts, const struct part *part)
{
	if (part->start >= part->end)
		return 0;
	if (!ARRAY_RESERVE(parts->rows, parts->count, parts->capacity, 256))
		return -ENOMEM;
	parts->rows[parts->count++] = *part;
	return 0;
}

static bool lies_in(const struct row *row, uint64_t address)
{
	return address >= row->start && address < row->end;
}

/* The thread whose stack begins lowest in [from, row->end), or NULL. A stack pointer alone proves nothing:
 * a run-time system has stacks in its heap. The C library puts a thread's descriptor above its stack. */
static const struct mematlas_image_thread *find_stack(const struct row *row, uint64_t from,
						      const struct mematlas_image_thread *threads,
						      size_t count)
{
	const struct mematlas_image_thread *found = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct mematlas_image_thread *thread = &threads[i];
		if (thread->sp >= from && lies_in(row, thread->sp) &&
		    (is_named(row, "[stack]") ||
		     (lies_in(row, thread->tls) && thread->tls > thread->sp &&
		      thread->tls - thread->sp < HUGE_STACK)) &&
		    (!found || thread->sp < found->sp))
			found = thread;
	}
	return found;
}

/* The C library puts a thread's descriptor at the end of its stack. Before Linux 6.7 the kernel merges what is mapped
 * behind it, such as an arena, with the stack. */
static uint64_t end_of_stack(const struct row *row, const struct mematlas_image_thread *thread)
{
	uint64_t end = lies_in(row, thread->tls) ? page_ceil(thread->tls + THREAD_DESCRIPTOR) : 0;

	return end && end < row->end && !is_named(row, "[stack]") ? end : row->end;
}

/* Stacks without a guard page between them are one mapping. What lies below a stack pointer is stale. */
static int add_stacks(struct parts *parts, const struct row *row, uint32_t mapping,
		      const struct mematlas_image_thread *threads, size_t count)
{
	uint64_t at = row->start;
	int error = 0;

	while (!error) {
		const struct mematlas_image_thread *thread = find_stack(row, at, threads, count);
		if (!thread)
			break;
		uint64_t start = (thread->sp - RED_ZONE) & ~7ull;
		start = start > at ? start : at;
		const struct mematlas_image_thread *next =
			find_stack(row, thread->sp + 1, threads, count);
		uint64_t end = end_of_stack(row, thread);
		if (next && end > next->sp - RED_ZONE)
			end = page_floor(next->sp - RED_ZONE);
		end = end > start ? end : row->end;
		error = add_part(parts,
				 &(struct part){start, end, MEMATLAS_HEAP_STACK, mapping, false});
		at = end;
	}
	if (!error)
		error = add_part(parts, &(struct part){at, row->end, MEMATLAS_HEAP_ANONYMOUS,
						       mapping, false});
	return error;
}

static uint32_t kind_of(const struct parts *parts, const struct row *row)
{
	const struct part *before = parts->count ? &parts->rows[parts->count - 1] : NULL;

	if (is_named(row, "[heap]"))
		return MEMATLAS_HEAP_BRK;
	if (is_named(row, "[stack]"))
		return MEMATLAS_HEAP_STACK;
	if (!is_anonymous(row))
		return MEMATLAS_HEAP_DATA;
	/* The anonymous tail of a file's data. */
	if (!row->length && before && before->end == row->start && before->written_only &&
	    row->permissions & MEMATLAS_MAPS_WRITE)
		return MEMATLAS_HEAP_DATA;
	return MEMATLAS_HEAP_ANONYMOUS;
}

/* A mapping that grew while it was write-protected is two rows of the maps. To its allocator it is one. */
static bool extends(const struct mematlas_maps *maps, const struct parts *parts, uint64_t i,
		    uint32_t kind)
{
	const struct part *before = parts->count ? &parts->rows[parts->count - 1] : NULL;

	if (!before || before->end != maps->base[MEMATLAS_MAPS_START][i] || before->kind != kind ||
	    before->written_only || (kind != MEMATLAS_HEAP_BRK && kind != MEMATLAS_HEAP_ANONYMOUS))
		return false;
	struct row first = row_of(maps, before->mapping), second = row_of(maps, i);
	return first.permissions == second.permissions && first.length == second.length &&
	       memcmp(first.name, second.name, first.length) == 0;
}

int parts_select(struct parts *parts, const struct mematlas_maps *maps,
		 const struct mematlas_image_thread *threads, size_t thread_count)
{
	int error = 0;

	parts->count = 0;
	for (uint64_t i = 0; !error && i < maps->count; i++) {
		struct row row = row_of(maps, i);
		if (!is_wanted(&row))
			continue;
		if (find_stack(&row, row.start, threads, thread_count)) {
			error = add_stacks(parts, &row, (uint32_t)i, threads, thread_count);
			continue;
		}
		uint32_t kind = kind_of(parts, &row);
		if (extends(maps, parts, i, kind))
			parts->rows[parts->count - 1].end = row.end;
		else
			error = add_part(parts, &(struct part){row.start, row.end, kind,
							       (uint32_t)i, !is_anonymous(&row)});
	}
	return error;
}

void parts_free(struct parts *parts)
{
	free(parts->rows);
	*parts = (struct parts){0};
}
