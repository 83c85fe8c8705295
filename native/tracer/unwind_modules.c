/* Finds the unwind tables of the module that contains a program counter. */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "memory.h"
#include "modules.h"
#include "state.h"
#include "syscall.h"
#include "unwind.h"

/* For glibc before 2.35, which lacks _dl_find_object(): a table of modules, rebuilt after each dlclose().
 * It is replaced, never changed, so a concurrent reader keeps a consistent one. */
#define MAX_MODULES 1024u

struct module {
	uintptr_t start, end;
	const uint8_t *eh_frame_hdr;
};

struct module_table {
	unsigned count;
	struct module modules[MAX_MODULES];
};

static struct module_table *_Atomic current;

/* A module's program headers, and their number. NULL: not where they are expected. */
static const ElfW(Phdr) * program_headers(const struct link_map *module, unsigned *count)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)module->l_addr;

	*count = 0;
	if (module == trace_first_module()) {
		*count = (unsigned)getauxval(AT_PHNUM);
		return (const ElfW(Phdr) *)getauxval(AT_PHDR);
	}
	if (!header || !trace_page_is_readable((uintptr_t)header) ||
	    memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
	    header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > TRACE_MIN_PAGE)
		return NULL;
	*count = header->e_phnum;
	return (const ElfW(Phdr) *)((const char *)header + header->e_phoff);
}

static void add_module(struct module_table *table, const struct link_map *loaded)
{
	struct module module = {.start = UINTPTR_MAX};
	unsigned count;
	const ElfW(Phdr) *segments = program_headers(loaded, &count);

	for (unsigned i = 0; i < count; i++) {
		uintptr_t start = loaded->l_addr + segments[i].p_vaddr;
		if (segments[i].p_type == PT_GNU_EH_FRAME)
			module.eh_frame_hdr = (const uint8_t *)start;
		if (segments[i].p_type != PT_LOAD)
			continue;
		if (start < module.start)
			module.start = start;
		if (start + segments[i].p_memsz > module.end)
			module.end = start + segments[i].p_memsz;
	}
	if (module.eh_frame_hdr && table->count < MAX_MODULES)
		table->modules[table->count++] = module;
}

void trace_unwind_modules_refresh(void)
{
	if (trace_find_object)
		return;
	struct module_table *table = trace_map(sizeof *table, PROT_READ | PROT_WRITE);
	if (!table)
		return;
	for (const struct link_map *module = trace_first_module(); module; module = module->l_next)
		add_module(table, module);
	atomic_store_explicit(&current, table, memory_order_release);
}

bool trace_unwind_modules_start(void)
{
	trace_modules_start();
	trace_unwind_modules_refresh();
	return trace_find_object || atomic_load(&current);
}

const uint8_t *trace_eh_frame_hdr(uintptr_t pc)
{
	struct trace_object object;

	if (trace_find_object)
		return trace_find_object((void *)pc, &object) == 0 ? object.eh_frame : NULL;
	const struct module_table *table = atomic_load_explicit(&current, memory_order_acquire);
	for (unsigned i = 0; table && i < table->count; i++)
		if (pc >= table->modules[i].start && pc < table->modules[i].end)
			return table->modules[i].eh_frame_hdr;
	return NULL;
}
