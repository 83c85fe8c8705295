/* Hooks for a program that was started without the tracer: the GOT entries through which its modules
 * call the replaced functions are pointed at the hooks, and restored at the end. */
#define _GNU_SOURCE
#include "patch.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "memory.h"
#include "state.h"
#include "syscall.h"

#if defined(__x86_64__)
#define JUMP_SLOT R_X86_64_JUMP_SLOT
#define GLOB_DAT R_X86_64_GLOB_DAT
#define POINTER R_X86_64_64
#elif defined(__aarch64__)
#define JUMP_SLOT R_AARCH64_JUMP_SLOT
#define GLOB_DAT R_AARCH64_GLOB_DAT
#define POINTER R_AARCH64_ABS64
#endif

#define NAMES 256u /* hash slots: a power of two, more than twice the hooks */
#define MAX_SLOTS 32768u
#define MAX_MODULES 2048u

struct slot {
	uintptr_t *address, before, ours;
	uintptr_t base; /* of its module */
};

static const struct trace_hook *names[NAMES];
static struct slot *slots;
static unsigned slot_count;
static uintptr_t patched[MAX_MODULES];
static unsigned patched_count;
static unsigned long long seen_adds;
static pthread_mutex_t patching = PTHREAD_MUTEX_INITIALIZER;

static uint32_t hash(const char *name)
{
	uint32_t x = 2166136261u;

	while (*name)
		x = (x ^ (unsigned char)*name++) * 16777619u;
	return x ^ x >> 15;
}

static void index_names(const struct trace_hook *hooks, unsigned count)
{
	if (names[hash(hooks[0].name) & (NAMES - 1)])
		return;
	for (unsigned i = 0; i < count && i < NAMES / 2; i++) {
		uint32_t at = hash(hooks[i].name);
		while (names[at & (NAMES - 1)])
			at++;
		names[at & (NAMES - 1)] = &hooks[i];
	}
}

static const struct trace_hook *find_hook(const char *name)
{
	for (uint32_t at = hash(name); names[at & (NAMES - 1)]; at++)
		if (strcmp(names[at & (NAMES - 1)]->name, name) == 0)
			return names[at & (NAMES - 1)];
	return NULL;
}

struct module {
	uintptr_t base, relro_start, relro_end;
	const ElfW(Sym) * symbols;
	const char *strings;
	const ElfW(Rela) * relocations[2]; /* of the procedure linkage table, and the others */
	size_t counts[2];
};

/* NULL: the module has no such entry. The loader relocates these values, except in modules whose dynamic
 * section is read-only. */
static const void *absolute(uintptr_t base, uintptr_t value)
{
	return (const void *)(value && value < base ? value + base : value);
}

static bool read_dynamic(struct module *module, const ElfW(Dyn) * dynamic)
{
	uintptr_t values[DT_JMPREL + 1] = {0}; /* by tag; DT_JMPREL is the highest one read */

	for (; dynamic->d_tag != DT_NULL; dynamic++)
		if (dynamic->d_tag > 0 && dynamic->d_tag <= DT_JMPREL)
			values[dynamic->d_tag] = dynamic->d_un.d_ptr;
	module->symbols = absolute(module->base, values[DT_SYMTAB]);
	module->strings = absolute(module->base, values[DT_STRTAB]);
	module->relocations[0] = absolute(module->base, values[DT_JMPREL]);
	module->counts[0] = values[DT_PLTRELSZ] / sizeof(ElfW(Rela));
	module->relocations[1] = absolute(module->base, values[DT_RELA]);
	module->counts[1] = values[DT_RELASZ] / sizeof(ElfW(Rela));
	bool rela = !values[DT_PLTREL] || values[DT_PLTREL] == DT_RELA;
	return rela && module->symbols && module->strings;
}

static bool write_slot(const struct module *module, uintptr_t *address, uintptr_t value)
{
	size_t size = trace_session.page_bytes;
	uintptr_t mask = ~(uintptr_t)(size - 1), page = (uintptr_t)address & mask;
	bool sealed = page >= (module->relro_start & mask) && page < module->relro_end;

	if (sealed && trace_syscall(SYS_mprotect, page, size, PROT_READ | PROT_WRITE) != 0)
		return false;
	__atomic_store_n(address, value, __ATOMIC_RELEASE);
	if (sealed)
		trace_syscall(SYS_mprotect, page, size, PROT_READ);
	return true;
}

/* A pointer in the program's data may have been changed by the program. */
static bool still_points(const ElfW(Rela) * relocation, const uintptr_t *address, const char *name)
{
	return relocation->r_addend == 0 && *address == (uintptr_t)dlsym(RTLD_DEFAULT, name);
}

static bool is_function_pointer(uint32_t type)
{
	return type == JUMP_SLOT || type == GLOB_DAT || type == POINTER;
}

static void patch_slot(const struct module *module, const ElfW(Rela) * relocation)
{
	uint32_t type = ELF64_R_TYPE(relocation->r_info);

	if (!is_function_pointer(type))
		return;
	const ElfW(Sym) *symbol = &module->symbols[ELF64_R_SYM(relocation->r_info)];
	const struct trace_hook *hook = find_hook(module->strings + symbol->st_name);
	uintptr_t *address = (uintptr_t *)(module->base + relocation->r_offset);
	if (!hook || slot_count == MAX_SLOTS || *address == 0 ||
	    *address == (uintptr_t)hook->function)
		return; /* 0: weak and undefined */
	if (type == POINTER && !still_points(relocation, address, hook->name))
		return;
	struct slot *slot = &slots[slot_count];
	*slot = (struct slot){address, *address, (uintptr_t)hook->function, module->base};
	if (write_slot(module, address, slot->ours))
		slot_count++;
}

static bool describe(struct module *module, const struct dl_phdr_info *info)
{
	const ElfW(Dyn) *dynamic = NULL;

	*module = (struct module){.base = info->dlpi_addr};
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_DYNAMIC)
			dynamic = (const ElfW(Dyn) *)start;
		if (segment->p_type == PT_LOAD && trace_session.own_start >= start &&
		    trace_session.own_start < start + segment->p_memsz)
			return false; /* ourselves */
		if (segment->p_type == PT_GNU_RELRO) {
			module->relro_start = start;
			module->relro_end = start + segment->p_memsz;
		}
	}
	return dynamic && read_dynamic(module, dynamic);
}

/* The loader uses the malloc() it found at start-up; the vdso calls no function. */
static bool is_excluded(const struct dl_phdr_info *info)
{
	const char *name = strrchr(info->dlpi_name, '/');

	name = name ? name + 1 : info->dlpi_name;
	return strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "linux-vdso", 10) == 0;
}

static bool is_patched(uintptr_t base)
{
	for (unsigned i = 0; i < patched_count; i++)
		if (patched[i] == base)
			return true;
	return false;
}

static int patch_module(struct dl_phdr_info *info, size_t size, void *unused)
{
	struct module module;

	(void)size;
	(void)unused;
	seen_adds = info->dlpi_adds;
	if (is_patched(info->dlpi_addr) || is_excluded(info) || !describe(&module, info) ||
	    patched_count == MAX_MODULES)
		return 0;
	patched[patched_count++] = info->dlpi_addr;
	for (int list = 0; list < 2; list++)
		for (size_t i = 0; module.relocations[list] && i < module.counts[list]; i++)
			patch_slot(&module, &module.relocations[list][i]);
	return 0;
}

bool trace_patch_is_active(void)
{
	return slot_count > 0;
}

bool trace_patch_start(const struct trace_hook *hooks, unsigned count)
{
	if (!slots)
		slots = trace_map(MAX_SLOTS * sizeof *slots, PROT_READ | PROT_WRITE);
	if (!slots)
		return false;
	pthread_mutex_lock(&patching);
	index_names(hooks, count);
	dl_iterate_phdr(patch_module, NULL);
	pthread_mutex_unlock(&patching);
	return true;
}

static int has_new_modules(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	return info->dlpi_adds != seen_adds ? 2 : 1;
}

/* dlopen() is not hooked, so the loader's count of loaded modules is compared. A module may take the base
 * of one that was closed before; trace_patch_closed() has dropped the old one's entries by then. */
void trace_patch_new_modules(void)
{
	if (dl_iterate_phdr(has_new_modules, NULL) != 2 || pthread_mutex_trylock(&patching) != 0)
		return;
	dl_iterate_phdr(patch_module, NULL);
	pthread_mutex_unlock(&patching);
}

struct loaded {
	uintptr_t bases[MAX_MODULES];
	unsigned count;
};

static int list_module(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct loaded *loaded = argument;

	(void)size;
	if (loaded->count < MAX_MODULES)
		loaded->bases[loaded->count++] = info->dlpi_addr;
	return 0;
}

static bool is_loaded(const struct loaded *loaded, uintptr_t base)
{
	for (unsigned i = 0; i < loaded->count; i++)
		if (loaded->bases[i] == base)
			return true;
	return false;
}

/* Drops slots in modules that are gone: their memory may belong to someone else. */
static void drop_closed(void)
{
	static struct loaded loaded; /* under the lock; too large for a small stack */
	unsigned kept = 0;

	loaded.count = 0;
	dl_iterate_phdr(list_module, &loaded);
	for (unsigned i = 0; i < slot_count; i++)
		if (is_loaded(&loaded, slots[i].base))
			slots[kept++] = slots[i];
	slot_count = kept;
	kept = 0;
	for (unsigned i = 0; i < patched_count; i++)
		if (is_loaded(&loaded, patched[i]))
			patched[kept++] = patched[i];
	patched_count = kept;
}

void trace_patch_closed(void)
{
	if (!slots)
		return;
	pthread_mutex_lock(&patching);
	drop_closed();
	pthread_mutex_unlock(&patching);
}

static int restore_module(struct dl_phdr_info *info, size_t size, void *unused)
{
	struct module module;

	(void)size;
	(void)unused;
	if (is_excluded(info) || !describe(&module, info))
		return 0;
	for (unsigned i = 0; i < slot_count; i++)
		if (slots[i].base == module.base && *slots[i].address == slots[i].ours)
			write_slot(&module, slots[i].address, slots[i].before);
	return 0;
}

void trace_patch_end(void)
{
	if (!slots)
		return;
	pthread_mutex_lock(&patching);
	drop_closed();
	dl_iterate_phdr(restore_module, NULL);
	slot_count = patched_count = 0;
	pthread_mutex_unlock(&patching);
}
