/* Hooks for a program that was started without the tracer: the GOT entries through which its modules
 * call the replaced functions are pointed at the hooks, and restored at the end. */
#define _GNU_SOURCE
#include "patch.h"

#include <elf.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>

#include "memory.h"
#include "modules.h"
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

/* What identifies a module as long as it is loaded. */
struct identity {
	const struct link_map *module;
	uintptr_t base;
	const ElfW(Dyn) * dynamic;
};

struct slot {
	uintptr_t *address, before, ours;
	struct identity module;
};

/* `real` is the function behind the hook, `stub` what a pointer to it may hold instead in a program that
 * is not position-independent; 0: not loaded yet, no such stub. */
struct name {
	const struct trace_hook *hook;
	uintptr_t real, stub;
};

/* slot_count <= MAX_SLOTS, patched_count <= MAX_MODULES; the caller of every function here is the only one. */
static struct name names[NAMES];
static struct slot *slots;
static unsigned slot_count;
static struct identity patched[MAX_MODULES];
static unsigned patched_count;

static uint32_t hash(const char *name)
{
	uint32_t x = 2166136261u;

	while (*name)
		x = (x ^ (unsigned char)*name++) * 16777619u;
	return x ^ x >> 15;
}

static void index_names(const struct trace_hook *hooks, unsigned count)
{
	memset(names, 0, sizeof names);
	for (unsigned i = 0; i < count && i < NAMES / 2; i++) {
		uint32_t at = hash(hooks[i].name);
		while (names[at & (NAMES - 1)].hook)
			at++;
		names[at & (NAMES - 1)].hook = &hooks[i];
	}
}

static struct name *find_name(const char *name)
{
	for (uint32_t at = hash(name); names[at & (NAMES - 1)].hook; at++)
		if (strcmp(names[at & (NAMES - 1)].hook->name, name) == 0)
			return &names[at & (NAMES - 1)];
	return NULL;
}

static void find_real(struct name *name)
{
	struct trace_symbol found;

	if (name->real || !trace_symbol_from(trace_first_module(), name->hook->name, &found))
		return;
	name->real = (uintptr_t)found.address;
	name->stub = trace_symbol_stub(trace_first_module(), name->hook->name);
}

/* An operation that changes nothing: FUTEX_WAKE_OP ORs 0 into the word, or fails without write access. */
static bool is_writable(uintptr_t *address)
{
	uint32_t *word = (uint32_t *)address, unused = 0;
	long result = trace_syscall(SYS_futex, &unused, FUTEX_WAKE_OP_PRIVATE, 0, 0, word,
				    FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0));

	return result != -EFAULT;
}

/* The loader protects the entries when it has relocated a module. Those of a module that it still relocates
 * stay writable. */
static bool write_slot(uintptr_t *address, uintptr_t value)
{
	size_t size = trace_session.page_bytes;
	uintptr_t page = (uintptr_t)address & ~(uintptr_t)(size - 1);
	bool sealed = !is_writable(address);

	if (sealed && trace_syscall(SYS_mprotect, page, size, PROT_READ | PROT_WRITE) != 0)
		return false;
	__atomic_store_n(address, value, __ATOMIC_RELEASE);
	if (sealed)
		trace_syscall(SYS_mprotect, page, size, PROT_READ);
	return true;
}

/* Not bound yet: the entry leads back into the procedure linkage table of its own module. */
static bool is_unbound(const struct link_map *module, uintptr_t value, const char *name)
{
	struct trace_symbol own;

	if (trace_module_of((const void *)value) != module)
		return false;
	return !trace_symbol_in(module, name, &own) || (uintptr_t)own.address != value;
}

/* Does a call through the entry reach the function that the hook calls? A module may be bound to another
 * one of that name (RTLD_DEEPBIND), whose blocks the hook's function must not free; and a pointer in the
 * program's data may have been changed by the program. */
static bool leads_to_real(const struct link_map *module, uint32_t type, uintptr_t value,
			  const struct name *name)
{
	if (!name->real)
		return false;
	return value == name->real || (name->stub && value == name->stub) ||
	       (type == JUMP_SLOT && is_unbound(module, value, name->hook->name));
}

static bool is_function_pointer(const ElfW(Rela) * relocation)
{
	uint32_t type = ELF64_R_TYPE(relocation->r_info);

	return type == JUMP_SLOT || type == GLOB_DAT ||
	       (type == POINTER && relocation->r_addend == 0);
}

static struct identity identify(const struct link_map *module)
{
	return (struct identity){module, module->l_addr, module->l_ld};
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	return a->module == b->module && a->base == b->base && a->dynamic == b->dynamic;
}

static void patch_slot(const struct link_map *module, const struct trace_dynamic *dynamic,
		       const ElfW(Rela) * relocation)
{
	if (!is_function_pointer(relocation))
		return;
	const ElfW(Sym) *symbol = &dynamic->symbols[ELF64_R_SYM(relocation->r_info)];
	struct name *name = find_name(dynamic->strings + symbol->st_name);
	uintptr_t *address = (uintptr_t *)(module->l_addr + relocation->r_offset);
	if (!name || slot_count == MAX_SLOTS || *address == (uintptr_t)name->hook->function)
		return;
	find_real(name);
	if (!leads_to_real(module, ELF64_R_TYPE(relocation->r_info), *address, name))
		return;
	struct slot *slot = &slots[slot_count];
	*slot = (struct slot){address, *address, (uintptr_t)name->hook->function, identify(module)};
	if (write_slot(address, slot->ours))
		slot_count++;
}

/* The loader uses the malloc() it found at start-up; the vdso calls no function. */
static bool is_excluded(const struct link_map *module)
{
	return module == trace_own_module() || trace_is_loader(module) || trace_is_vdso(module);
}

static bool is_patched(const struct identity *module)
{
	for (unsigned i = 0; i < patched_count; i++)
		if (is_same(&patched[i], module))
			return true;
	return false;
}

static void patch_module(const struct link_map *module)
{
	struct identity identity = identify(module);
	struct trace_dynamic dynamic;

	if (is_excluded(module) || !trace_module_is_ready(module) || is_patched(&identity) ||
	    patched_count == MAX_MODULES)
		return;
	patched[patched_count++] = identity;
	if (!trace_read_dynamic(module, &dynamic))
		return;
	for (int list = 0; list < 2; list++)
		for (size_t i = 0; dynamic.relocations[list] && i < dynamic.relocation_counts[list];
		     i++)
			patch_slot(module, &dynamic, &dynamic.relocations[list][i]);
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
	index_names(hooks, count);
	trace_patch_modules();
	return true;
}

/* Modules of another namespace (dlmopen) call functions of their own C library. */
void trace_patch_modules(void)
{
	if (!slots)
		return;
	for (const struct link_map *module = trace_first_module(); module; module = module->l_next)
		patch_module(module);
}

static bool is_loaded(const struct identity *identity)
{
	for (const struct link_map *module = trace_first_module(); module;
	     module = module->l_next) {
		struct identity now = identify(module);
		if (is_same(identity, &now))
			return true;
	}
	return false;
}

void trace_patch_closed(void)
{
	const struct identity *last = NULL;
	unsigned kept = 0;
	bool loaded = false;

	for (unsigned i = 0; i < slot_count; i++) {
		/* The slots of a module are neighbours. */
		if (!last || !is_same(last, &slots[i].module))
			loaded = is_loaded(&slots[i].module);
		last = &slots[i].module;
		if (loaded)
			slots[kept++] = slots[i];
	}
	slot_count = kept;
	kept = 0;
	for (unsigned i = 0; i < patched_count; i++)
		if (is_loaded(&patched[i]))
			patched[kept++] = patched[i];
	patched_count = kept;
}

void trace_patch_end(void)
{
	trace_patch_closed();
	for (unsigned i = 0; i < slot_count; i++)
		if (*slots[i].address == slots[i].ours)
			write_slot(slots[i].address, slots[i].before);
	slot_count = patched_count = 0;
}
