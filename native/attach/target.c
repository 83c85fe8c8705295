/* Reads which files the code of a process comes from. */
#define _GNU_SOURCE
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "../proc/maps.h"

#define MAX_NOTES 4096u

static void destroy_maps(struct mematlas_maps **maps)
{
	mematlas_maps_destroy(*maps);
}

/* A row of the maps. */
struct row {
	uint64_t start, end, permissions, offset, device, inode;
	char name[MODULE_NAME];
};

static struct row row_of(const struct mematlas_maps *maps, uint64_t i)
{
	uint64_t length = mematlas_maps_base(maps, MEMATLAS_MAPS_NAME_LENGTH)[i];
	const char *name =
		mematlas_maps_names(maps) + mematlas_maps_base(maps, MEMATLAS_MAPS_NAME_AT)[i];
	struct row row = {
		.start = mematlas_maps_base(maps, MEMATLAS_MAPS_START)[i],
		.end = mematlas_maps_base(maps, MEMATLAS_MAPS_END)[i],
		.permissions = mematlas_maps_base(maps, MEMATLAS_MAPS_PERMISSIONS)[i],
		.offset = mematlas_maps_base(maps, MEMATLAS_MAPS_OFFSET)[i],
		.device = mematlas_maps_base(maps, MEMATLAS_MAPS_DEVICE)[i],
		.inode = mematlas_maps_base(maps, MEMATLAS_MAPS_INODE)[i],
	};

	for (uint64_t at = 0; at < length; at++)
		if (name[at] == '/' && at + 1 < length) {
			name += at + 1;
			length -= at + 1;
			at = UINT64_MAX;
		}
	snprintf(row.name, sizeof row.name, "%.*s",
		 (int)(length < MODULE_NAME ? length : MODULE_NAME), name);
	return row;
}

static bool begins(const char *name, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (strncmp(name, *prefixes, strlen(*prefixes)) == 0)
			return true;
	return false;
}

static enum module_kind kind_by_name(const char *name)
{
	static const char *const libc[] = {"libc.so", "libc-2.", "libpthread", "libdl.",
					   "libdl-",  "librt.",  "librt-",     NULL};
	static const char *const loader[] = {"ld-", "ld.so", "ld64.so", NULL};
	static const char *const allocators[] = {"libjemalloc", "libmimalloc",    "libtcmalloc",
						 "libmematlas", "memfd:mematlas", "libasan",
						 "libtsan",     "libhwasan",      NULL};

	return begins(name, libc)         ? MODULE_LIBC
	       : begins(name, loader)     ? MODULE_LOADER
	       : begins(name, allocators) ? MODULE_ALLOCATOR
					  : MODULE_PROGRAM;
}

static void read_module(struct mematlas_target *target, struct module *module, uint64_t start)
{
	module->kind = MODULE_JIT;
	if (!start || !image_read(&target->memory, start, &module->image))
		return;
	module->kind = kind_by_name(module->name);
	if (module->kind == MODULE_PROGRAM) {
		module->defines_malloc =
			symbols_find(&target->memory, &module->image, "malloc") != 0;
		target->own_allocator |= module->defines_malloc;
	} else {
		functions_read(&target->memory, &module->image, &module->functions);
	}
}

/* Returns the index of the module with that image; module_count: new. */
static uint64_t find_module(const struct mematlas_target *target, uint64_t start)
{
	uint64_t i = target->module_count;

	while (i > 0)
		if (target->modules[--i].image.start == start && start)
			return i;
	return target->module_count;
}

static void add_code(struct mematlas_target *target, const struct row *row, uint64_t start)
{
	uint64_t index = find_module(target, start);

	if (index == target->module_count) {
		struct module *module = &target->modules[target->module_count++];
		*module = (struct module){.device = row->device, .inode = row->inode};
		memcpy(module->name, row->name, sizeof module->name);
		read_module(target, module, start);
	}
	target->codes[target->code_count++] =
		(struct code){.start = row->start, .end = row->end, .module = (uint32_t)index};
}

/* A file's code lies above its first byte, in the mappings of the same file. */
static void read_codes(struct mematlas_target *target, const struct mematlas_maps *maps,
		       uint64_t count)
{
	struct row first = {0};

	for (uint64_t i = 0; i < count; i++) {
		struct row row = row_of(maps, i);
		bool file = row.inode != 0;
		if (file && row.offset == 0)
			first = row;
		if (!(row.permissions & MEMATLAS_MAPS_EXECUTE))
			continue;
		bool same = file && first.inode == row.inode && first.device == row.device;
		bool vdso = strcmp(row.name, "[vdso]") == 0;
		add_code(target, &row, same ? first.start : vdso ? row.start : 0);
	}
}

int mematlas_target_create(int pid, struct mematlas_target **ret)
{
	CLEANUP(destroy_maps) struct mematlas_maps *maps = NULL;
	struct mematlas_maps_sizes sizes;
	int error = maps_of_process(pid, &maps);

	*ret = NULL;
	if (error)
		return error;
	struct mematlas_target *target = calloc(1, sizeof *target);
	if (!target)
		return -ENOMEM;
	mematlas_maps_sizes(maps, &sizes);
	target->pid = pid;
	target->memory.pid = pid;
	target->modules = calloc(sizes.count + 1, sizeof *target->modules);
	target->codes = calloc(sizes.count + 1, sizeof *target->codes);
	if (!target->modules || !target->codes) {
		mematlas_target_destroy(target);
		return -ENOMEM;
	}
	read_codes(target, maps, sizes.count);
	*ret = target;
	return 0;
}

void mematlas_target_destroy(struct mematlas_target *target)
{
	if (!target)
		return;
	for (uint64_t i = 0; target->modules && i < target->module_count; i++)
		functions_free(&target->modules[i].functions);
	free(target->modules);
	free(target->codes);
	free(target);
}

struct module *target_module_at(struct mematlas_target *target, uint64_t pc)
{
	uint64_t low = 0, high = target->code_count;

	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (target->codes[middle].start <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	const struct code *found = low ? &target->codes[low - 1] : NULL;
	return found && pc < found->end ? &target->modules[found->module] : NULL;
}

uint64_t mematlas_target_function(struct mematlas_target *target, uint64_t start, const char *name)
{
	struct image image;

	process_memory_forget(&target->memory);
	return image_read(&target->memory, start, &image)
		       ? symbols_find(&target->memory, &image, name)
		       : 0;
}

static uint64_t padded(uint32_t size)
{
	return ((uint64_t)size + 3) & ~(uint64_t)3;
}

static int find_build_id(struct process_memory *memory, const struct image_notes *notes,
			 uint8_t *ret, int size)
{
	uint64_t at = notes->start, end = at + (notes->size < MAX_NOTES ? notes->size : MAX_NOTES);
	Elf64_Nhdr note;

	while (at + sizeof note <= end && MEMORY_READ(memory, at, note)) {
		uint64_t value = at + sizeof note + padded(note.n_namesz);
		if (note.n_type == NT_GNU_BUILD_ID && note.n_descsz <= (uint32_t)size &&
		    process_memory_read(memory, value, ret, note.n_descsz))
			return (int)note.n_descsz;
		at = value + padded(note.n_descsz);
	}
	return 0;
}

int mematlas_target_build_id(struct mematlas_target *target, uint64_t start, uint8_t *ret, int size)
{
	struct image image;
	int found = 0;

	process_memory_forget(&target->memory);
	if (!image_read(&target->memory, start, &image))
		return 0;
	for (unsigned i = 0; i < image.note_count && !found; i++)
		found = find_build_id(&target->memory, &image.notes[i], ret, size);
	return found;
}
