/* Reads the headers of an ELF file in the memory of another process. */
#include "image.h"

#include <string.h>

#define MAX_HEADERS 128u
#define MAX_DYNAMIC 512u

/* The loader adds the bias to the addresses of the dynamic section, except in the vDSO. */
static uint64_t relocated(const struct image *image, uint64_t address)
{
	return address && address < image->start ? address + image->bias : address;
}

static void note_dynamic(struct image *image, const Elf64_Dyn *entry)
{
	uint64_t address = relocated(image, entry->d_un.d_ptr);

	switch (entry->d_tag) {
	case DT_SYMTAB:
		image->symbols = address;
		break;
	case DT_STRTAB:
		image->names = address;
		break;
	case DT_STRSZ:
		image->names_size = entry->d_un.d_val;
		break;
	case DT_GNU_HASH:
		image->gnu_hash = address;
		break;
	case DT_HASH:
		image->hash = address;
		break;
	default:
		break;
	}
}

static void read_dynamic(struct process_memory *memory, uint64_t at, struct image *image)
{
	Elf64_Dyn entry;

	for (unsigned i = 0; i < MAX_DYNAMIC; i++) {
		if (!MEMORY_READ(memory, at + i * sizeof entry, entry) || entry.d_tag == DT_NULL)
			return;
		note_dynamic(image, &entry);
	}
}

static bool read_headers(struct process_memory *memory, const Elf64_Ehdr *header,
			 Elf64_Phdr headers[MAX_HEADERS], uint64_t start)
{
	return header->e_phentsize == sizeof *headers && header->e_phnum <= MAX_HEADERS &&
	       header->e_phnum > 0 &&
	       process_memory_read(memory, start + header->e_phoff, headers,
				   header->e_phnum * sizeof *headers);
}

static bool find_bias(const Elf64_Phdr *headers, unsigned count, struct image *image)
{
	uint64_t lowest = UINT64_MAX;

	for (unsigned i = 0; i < count; i++)
		if (headers[i].p_type == PT_LOAD && headers[i].p_vaddr < lowest)
			lowest = headers[i].p_vaddr;
	image->bias = image->start - (lowest & ~(uint64_t)(MEMORY_PAGE - 1));
	return lowest != UINT64_MAX;
}

static void note_segment(struct process_memory *memory, const Elf64_Phdr *segment,
			 struct image *image)
{
	uint64_t address = segment->p_vaddr + image->bias;

	if (segment->p_type == PT_GNU_EH_FRAME)
		image->eh_frame_hdr = address;
	if (segment->p_type == PT_DYNAMIC)
		read_dynamic(memory, address, image);
	if (segment->p_type == PT_NOTE && image->note_count < IMAGE_NOTES)
		image->notes[image->note_count++] = (struct image_notes){address, segment->p_memsz};
}

static bool is_elf(const Elf64_Ehdr *header)
{
	return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
	       header->e_ident[EI_CLASS] == ELFCLASS64 && header->e_ident[EI_DATA] == ELFDATA2LSB;
}

bool image_read(struct process_memory *memory, uint64_t start, struct image *ret)
{
	Elf64_Ehdr header;
	Elf64_Phdr headers[MAX_HEADERS];

	*ret = (struct image){.start = start};
	if (!MEMORY_READ(memory, start, header) || !is_elf(&header) ||
	    !read_headers(memory, &header, headers, start) ||
	    !find_bias(headers, header.e_phnum, ret))
		return false;
	for (unsigned i = 0; i < header.e_phnum; i++)
		note_segment(memory, &headers[i], ret);
	return true;
}
