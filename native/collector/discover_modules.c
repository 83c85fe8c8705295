/* Modules found by their mappings. They have no MODULE record if the tracer did not see them
 * loaded, such as those libc opens itself. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "sweep.h"

static bool covers(const Elf64_Phdr *segment, const struct vma *vma)
{
	return segment->p_type == PT_LOAD && segment->p_flags & PF_X &&
	       vma->file_offset >= page_floor(segment->p_offset) &&
	       vma->file_offset < segment->p_offset + segment->p_filesz;
}

/* The load bias of a mapped ELF file, from the program header that covers the mapping. The path is
 * resolved in the process's root, which may be another than the collector's. */
static bool find_bias(const struct join *join, const struct vma *vma, uint64_t *bias)
{
	char path[1200];
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	snprintf(path, sizeof path, "root%s", vma->name);
	CLEANUP_CLOSE int fd = openat(join->process->dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return false;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		off_t at = (off_t)(header.e_phoff + i * sizeof segment);
		if (pread(fd, &segment, sizeof segment, at) != sizeof segment)
			return false;
		if (covers(&segment, vma)) {
			*bias = vma->start - vma->file_offset -
				(segment.p_vaddr - segment.p_offset);
			return true;
		}
	}
	return false;
}

/* A module that the tracer recorded may have another path than its mapping, but has a build ID or lies
 * there still. One that was found here has the path of its mapping. */
static bool is_recorded(const struct modules *modules, const struct vma *vma)
{
	for (uint32_t m = modules->count; m-- > 0;) {
		const struct mematlas_module *seen = &modules->items[m];
		if (MODULE_ADDRESS(seen->start) > vma->start ||
		    vma->end > MODULE_ADDRESS(seen->end) || !*seen->path)
			continue;
		if (*seen->build_id || strcmp(seen->path, vma->name) == 0)
			return true;
	}
	return false;
}

void discover_modules(struct join *join)
{
	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		struct mematlas_module module = {0, vma->start, vma->end, "", ""};
		if (vma->permissions[2] != 'x' || !vma->inode || *vma->name != '/' ||
		    is_recorded(&join->process->state.modules, vma) ||
		    !find_bias(join, vma, &module.bias))
			continue;
		strncpy(module.path, vma->name, sizeof module.path - 1);
		module_add(&join->process->state, &module);
	}
}
