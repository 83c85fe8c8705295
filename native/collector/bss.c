/* The .bss of a mapped ELF file. In maps, the kernel shows no name for this memory, and it joins the .bss
 * with anonymous mappings that happen to follow, so its end comes from the program headers. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "join.h"

#define MOST_SEGMENTS 64u

/* The lowest mapping of the file that mapping `at` is of. */
static const struct vma *first_of_file(const struct vmas *vmas, size_t at)
{
	const struct vma *last = &vmas->items[at], *first = last;

	for (size_t i = at; i-- > 0 && vmas->items[i].inode == last->inode;)
		if (strcmp(vmas->items[i].name, last->name) == 0)
			first = &vmas->items[i];
	return first;
}

/* The program headers of the ELF file whose header is mapped at `base`; 0: there are none. */
static unsigned read_segments(int memory, uint64_t base, Elf64_Phdr segments[MOST_SEGMENTS])
{
	Elf64_Ehdr header;

	if (pread(memory, &header, sizeof header, (off_t)base) != sizeof header ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phnum > MOST_SEGMENTS ||
	    header.e_phoff > page_bytes())
		return 0;
	size_t size = header.e_phnum * sizeof *segments;
	off_t at = (off_t)(base + header.e_phoff);
	return pread(memory, segments, size, at) == (ssize_t)size ? header.e_phnum : 0;
}

/* Where the segments of that file end in memory; 0: unknown. */
static uint64_t end_of_segments(int memory, uint64_t base)
{
	Elf64_Phdr segments[MOST_SEGMENTS];
	uint64_t start = UINT64_MAX, end = 0;
	unsigned count = read_segments(memory, base, segments);

	for (unsigned i = 0; i < count; i++) {
		const Elf64_Phdr *segment = &segments[i];
		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_offset == 0)
			start = page_floor(segment->p_vaddr);
		if (segment->p_vaddr + segment->p_memsz > end)
			end = segment->p_vaddr + segment->p_memsz;
	}
	return start <= end ? page_ceil(base + end - start) : 0;
}

/* Names mapping `at` after the file whose .bss it is, and cuts off what follows the .bss. */
static bool name_bss(struct vmas *vmas, size_t at, uint64_t end)
{
	struct vma *vma = &vmas->items[at];

	if (end < vma->end) {
		if (!ARRAY_RESERVE(vmas->items, vmas->count, vmas->capacity, 512))
			return false;
		vma = &vmas->items[at];
		memmove(vma + 1, vma, (vmas->count - at) * sizeof *vma);
		vmas->count++;
		vma[1].start = vma->end = end;
	}
	vma->name = vma[-1].name;
	vma->bss = true;
	return true;
}

static bool may_be_bss(const struct vmas *vmas, size_t at)
{
	const struct vma *vma = &vmas->items[at], *before = vma - 1;

	return !*vma->name && !vma->inode && before->end == vma->start && before->inode &&
	       *before->name == '/' && before->permissions[3] == 'p';
}

bool vmas_name_bss(int proc, struct vmas *vmas)
{
	CLEANUP_CLOSE int memory = openat(proc, "mem", O_RDONLY | O_CLOEXEC);

	for (size_t i = 1; memory >= 0 && i < vmas->count; i++) {
		if (!may_be_bss(vmas, i))
			continue;
		const struct vma *first = first_of_file(vmas, i - 1);
		uint64_t end = first->file_offset ? 0 : end_of_segments(memory, first->start);
		if (end > vmas->items[i].start && !name_bss(vmas, i, end))
			return false;
	}
	return true;
}
