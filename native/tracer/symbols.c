/* Symbols of loaded modules, read from the modules' own tables. */
#define _GNU_SOURCE
#include "symbols.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#define HIDDEN_VERSION 0x8000u /* of DT_VERSYM: not the default version */
#define WORD_BITS 64u          /* of the Bloom filter, in 64-bit objects */

/* The loader relocates these values, except in modules whose dynamic section is read-only. */
static const void *absolute(uintptr_t base, uintptr_t value)
{
	return (const void *)(value && value < base ? value + base : value);
}

/* The entries read here, by tag; DT_JMPREL is the highest of the low ones. */
struct entries {
	uintptr_t low[DT_JMPREL + 1], gnu_hash, versions;
};

static struct entries read_entries(const ElfW(Dyn) * entry)
{
	struct entries found = {.gnu_hash = 0};

	for (; entry && entry->d_tag != DT_NULL; entry++) {
		if (entry->d_tag > 0 && entry->d_tag <= DT_JMPREL)
			found.low[entry->d_tag] = entry->d_un.d_ptr;
		if (entry->d_tag == DT_GNU_HASH)
			found.gnu_hash = entry->d_un.d_ptr;
		if (entry->d_tag == DT_VERSYM)
			found.versions = entry->d_un.d_ptr;
	}
	return found;
}

bool trace_read_dynamic(const struct link_map *module, struct trace_dynamic *dynamic)
{
	struct entries entries = read_entries(module->l_ld);
	uintptr_t base = module->l_addr, *low = entries.low;
	bool rela = !low[DT_PLTREL] || low[DT_PLTREL] == DT_RELA;

	*dynamic = (struct trace_dynamic){
		.symbols = absolute(base, low[DT_SYMTAB]),
		.strings = absolute(base, low[DT_STRTAB]),
		.gnu_hash = absolute(base, entries.gnu_hash),
		.hash = absolute(base, low[DT_HASH]),
		.versions = absolute(base, entries.versions),
		.relocations = {rela ? absolute(base, low[DT_JMPREL]) : NULL,
				absolute(base, low[DT_RELA])},
		.relocation_counts = {low[DT_PLTRELSZ] / sizeof(ElfW(Rela)),
				      low[DT_RELASZ] / sizeof(ElfW(Rela))},
	};
	if (low[DT_SONAME] && dynamic->strings)
		dynamic->name = dynamic->strings + low[DT_SONAME];
	return dynamic->symbols && dynamic->strings;
}

/* What a search has found: the default version, or another one until that is met. Index 0 is no symbol. */
struct search {
	const struct trace_dynamic *in;
	const char *name;
	bool undefined; /* searches for a stub instead of a definition */
	uint32_t best;
};

static bool is_wanted(const ElfW(Sym) * symbol, bool undefined)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);

	if (ELF64_ST_BIND(symbol->st_info) == STB_LOCAL || type == STT_TLS)
		return false;
	if (undefined)
		return symbol->st_shndx == SHN_UNDEF && symbol->st_value;
	return symbol->st_shndx != SHN_UNDEF && (symbol->st_value || symbol->st_shndx == SHN_ABS);
}

/* True: the search is over. */
static bool consider(struct search *search, uint32_t index)
{
	const struct trace_dynamic *in = search->in;
	const ElfW(Sym) *symbol = &in->symbols[index];

	if (!is_wanted(symbol, search->undefined) ||
	    strcmp(in->strings + symbol->st_name, search->name) != 0)
		return false;
	bool hidden = in->versions && in->versions[index] & HIDDEN_VERSION;
	if (!hidden || !search->best)
		search->best = index;
	return !hidden;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t hash = 5381;

	while (*name)
		hash = hash * 33 + (unsigned char)*name++;
	return hash;
}

static void search_gnu_hash(struct search *search)
{
	const uint32_t *table = search->in->gnu_hash;
	uint32_t buckets = table[0], first = table[1], words = table[2], shift = table[3];
	const uint64_t *bloom = (const void *)(table + 4);
	const uint32_t *bucket = (const void *)(bloom + words), *chain = bucket + buckets;
	uint32_t hash = gnu_hash(search->name);

	if (!buckets || !words)
		return;
	uint64_t word = bloom[hash / WORD_BITS % words];
	if (!(word >> hash % WORD_BITS & word >> (hash >> shift) % WORD_BITS & 1))
		return;
	uint32_t index = bucket[hash % buckets];
	if (index < first)
		return;
	for (;; index++) {
		uint32_t value = chain[index - first]; /* a hash; its last bit ends the chain */
		if ((value | 1) == (hash | 1) && consider(search, index))
			return;
		if (value & 1)
			return;
	}
}

static uint32_t sysv_hash(const char *name)
{
	uint32_t hash = 0;

	while (*name) {
		hash = (hash << 4) + (unsigned char)*name++;
		hash = (hash ^ (hash >> 24 & 0xf0)) & 0xfffffff;
	}
	return hash;
}

static void search_sysv_hash(struct search *search)
{
	const uint32_t *table = search->in->hash;
	uint32_t buckets = table[0];
	const uint32_t *bucket = table + 2, *chain = bucket + buckets;

	if (!buckets)
		return;
	for (uint32_t i = bucket[sysv_hash(search->name) % buckets]; i; i = chain[i])
		if (consider(search, i))
			return;
}

/* Returns the index of the symbol; 0: there is none. */
static uint32_t find(struct search search)
{
	if (search.in->gnu_hash)
		search_gnu_hash(&search);
	else if (search.in->hash)
		search_sysv_hash(&search);
	return search.best;
}

/* Asks a resolver (STT_GNU_IFUNC) for the function that fits this processor, as the loader does. */
static uintptr_t resolve(uintptr_t resolver)
{
#if defined(__aarch64__)
	const struct {
		unsigned long size, hwcap, hwcap2;
	} argument = {sizeof argument, getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};

	return ((uintptr_t (*)(uint64_t, const void *))resolver)(argument.hwcap | 1ull << 62,
								 &argument);
#else
	return ((uintptr_t (*)(void))resolver)();
#endif
}

bool trace_symbol_in(const struct link_map *module, const char *name, struct trace_symbol *found)
{
	struct trace_dynamic dynamic;

	if (!trace_read_dynamic(module, &dynamic))
		return false;
	uint32_t index = find((struct search){&dynamic, name, false, 0});
	if (!index)
		return false;
	const ElfW(Sym) *symbol = &dynamic.symbols[index];
	uintptr_t base = symbol->st_shndx == SHN_ABS ? 0 : module->l_addr;
	uintptr_t address = base + symbol->st_value;
	if (ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC)
		address = resolve(address);
	*found = (struct trace_symbol){(void *)address, symbol->st_size};
	return true;
}

uintptr_t trace_symbol_stub(const struct link_map *module, const char *name)
{
	struct trace_dynamic dynamic;

	if (!trace_read_dynamic(module, &dynamic))
		return 0;
	uint32_t index = find((struct search){&dynamic, name, true, 0});
	return index ? module->l_addr + dynamic.symbols[index].st_value : 0;
}
