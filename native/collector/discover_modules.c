/* Modules learnt from mappings: loaded behind the hooks' back, as by dlopen in libc itself. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sweep.h"

/* The load bias of the ELF file mapped here, from the program header that covers this mapping. Read by
 * way of the process's own root, where its paths hold. */
static bool find_bias(const struct join *join, const struct vma *vma, uint64_t *bias)
{
	char path[1200];
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	snprintf(path, sizeof path, "root%s", vma->name);
	int fd = openat(join->process->dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool found = false;
	if (fd < 0)
		return false;
	if (pread(fd, &header, sizeof header, 0) == sizeof header &&
	    memcmp(header.e_ident, ELFMAG, SELFMAG) == 0)
		for (unsigned i = 0; i < header.e_phnum && !found; i++) {
			off_t at = (off_t)(header.e_phoff + i * sizeof segment);
			if (pread(fd, &segment, sizeof segment, at) != sizeof segment)
				break;
			uint64_t offset = page_floor(segment.p_offset);
			found = segment.p_type == PT_LOAD && segment.p_flags & PF_X &&
				vma->file_offset >= offset &&
				vma->file_offset < segment.p_offset + segment.p_filesz;
			*bias = vma->start - vma->file_offset -
				(segment.p_vaddr - segment.p_offset);
		}
	close(fd);
	return found;
}

static bool is_told(const struct modules *modules, const struct vma *vma)
{
	for (uint32_t m = modules->count; m-- > 0;)
		if (modules->items[m].start <= vma->start && vma->end <= modules->items[m].end)
			return true;
	return false;
}

void learn_modules(struct join *join)
{
	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		struct mematlas_module module = {0, vma->start, vma->end, "", ""};
		if (vma->permissions[2] != 'x' || !vma->inode || *vma->name != '/' ||
		    is_told(&join->process->state.modules, vma) ||
		    !find_bias(join, vma, &module.bias))
			continue;
		strncpy(module.path, vma->name, sizeof module.path - 1);
		module_add(&join->process->state, &module);
	}
}
