/* Finds the unwind tables of the module that contains a program counter. */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
#include <sys/mman.h>

#include "memory.h"
#include "modules.h"
#include "state.h"
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

static int add_module(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct module_table *table = argument;
	struct module module = {.start = UINTPTR_MAX};

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_GNU_EH_FRAME)
			module.eh_frame_hdr = (const uint8_t *)start;
		if (segment->p_type != PT_LOAD)
			continue;
		if (start < module.start)
			module.start = start;
		if (start + segment->p_memsz > module.end)
			module.end = start + segment->p_memsz;
	}
	if (module.eh_frame_hdr && table->count < MAX_MODULES)
		table->modules[table->count++] = module;
	return 0;
}

void trace_unwind_modules_refresh(void)
{
	if (trace_find_object)
		return;
	struct module_table *table = trace_map(sizeof *table, PROT_READ | PROT_WRITE);
	if (!table)
		return;
	dl_iterate_phdr(add_module, table);
	atomic_store_explicit(&current, table, memory_order_release);
}

bool trace_unwind_modules_start(void)
{
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
