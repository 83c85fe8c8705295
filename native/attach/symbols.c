/* Reads dynamic symbols by their hash tables: section headers are not in memory. */
#include "symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SYMBOLS (1u << 20)
#define MAX_NAMES (64u << 20)
#define MAX_NAME 128u

struct gnu_hash {
	uint32_t buckets, first, blooms, shift;
};

static uint64_t buckets_of(const struct image *image, const struct gnu_hash *table)
{
	return image->gnu_hash + sizeof *table + (uint64_t)table->blooms * sizeof(uint64_t);
}

static uint64_t chain_of(const struct image *image, const struct gnu_hash *table, uint64_t symbol)
{
	return buckets_of(image, table) +
	       (table->buckets + symbol - table->first) * sizeof(uint32_t);
}

/* The last symbol is the end of the chain that starts last. */
static uint64_t count_by_gnu_hash(struct process_memory *memory, const struct image *image)
{
	struct gnu_hash table;
	uint32_t bucket, word = 0, last = 0;

	if (!MEMORY_READ(memory, image->gnu_hash, table) || table.buckets > MAX_SYMBOLS)
		return 0;
	for (uint64_t i = 0; i < table.buckets; i++) {
		if (!MEMORY_READ(memory, buckets_of(image, &table) + i * sizeof bucket, bucket))
			return 0;
		last = bucket > last ? bucket : last;
	}
	if (last < table.first)
		return table.first;
	for (uint64_t at = last; at < MAX_SYMBOLS; at++) {
		if (!MEMORY_READ(memory, chain_of(image, &table, at), word))
			return 0;
		if (word & 1)
			return at + 1;
	}
	return 0;
}

static uint64_t count_symbols(struct process_memory *memory, const struct image *image)
{
	uint32_t counts[2]; /* buckets, chains */

	if (image->gnu_hash)
		return count_by_gnu_hash(memory, image);
	if (image->hash && MEMORY_READ(memory, image->hash, counts) && counts[1] <= MAX_SYMBOLS)
		return counts[1];
	return 0;
}

static int copy_tables(int pid, const struct image *image, struct symbols *ret)
{
	ret->entries = calloc(ret->count, sizeof *ret->entries);
	ret->names = calloc(1, ret->names_size + 1);
	if (!ret->entries || !ret->names)
		return -ENOMEM;
	return process_memory_copy(pid, image->symbols, ret->entries,
				   ret->count * sizeof *ret->entries) &&
			       process_memory_copy(pid, image->names, ret->names, ret->names_size)
		       ? 0
		       : -EFAULT;
}

int symbols_read(struct process_memory *memory, const struct image *image, struct symbols *ret)
{
	*ret = (struct symbols){.names_size = image->names_size};
	if (!image->symbols || !image->names || image->names_size > MAX_NAMES)
		return -ENOENT;
	ret->count = count_symbols(memory, image);
	int error = ret->count ? copy_tables(memory->pid, image, ret) : -ENOENT;
	if (error)
		symbols_free(ret);
	return error;
}

void symbols_free(struct symbols *symbols)
{
	free(symbols->entries);
	free(symbols->names);
	*symbols = (struct symbols){0};
}

const char *symbols_name(const struct symbols *symbols, const Elf64_Sym *symbol)
{
	return symbol->st_name < symbols->names_size ? symbols->names + symbol->st_name : "";
}

static uint32_t gnu_hash_of(const char *name)
{
	uint32_t hash = 5381;

	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

static bool is_named(struct process_memory *memory, const struct image *image, uint32_t at,
		     const char *name)
{
	char text[MAX_NAME];
	size_t size = strlen(name) + 1;

	return size <= sizeof text && at < image->names_size &&
	       process_memory_read(memory, image->names + at, text, size) &&
	       memcmp(text, name, size) == 0;
}

/* The address of symbol number `index`, if it is a definition of that name. */
static uint64_t definition(struct process_memory *memory, const struct image *image, uint64_t index,
			   const char *name)
{
	Elf64_Sym symbol;

	if (!MEMORY_READ(memory, image->symbols + index * sizeof symbol, symbol) ||
	    symbol.st_shndx == SHN_UNDEF || !is_named(memory, image, symbol.st_name, name))
		return 0;
	return symbol.st_value + image->bias;
}

static uint64_t find_by_hash(struct process_memory *memory, const struct image *image,
			     const char *name)
{
	uint64_t count = count_symbols(memory, image);

	for (uint64_t i = 1; i < count; i++) {
		uint64_t found = definition(memory, image, i, name);
		if (found)
			return found;
	}
	return 0;
}

/* The first symbol of the chain for a hash; 0: there is none. */
static uint64_t chain_start(struct process_memory *memory, const struct image *image,
			    const struct gnu_hash *table, uint32_t hash)
{
	uint32_t index;
	uint64_t offset = table->buckets ? hash % table->buckets * sizeof index : 0;

	if (!table->buckets || !MEMORY_READ(memory, buckets_of(image, table) + offset, index))
		return 0;
	return index < table->first ? 0 : index;
}

static uint64_t find_by_gnu_hash(struct process_memory *memory, const struct image *image,
				 const char *name)
{
	struct gnu_hash table;
	uint32_t word, hash = gnu_hash_of(name);

	if (!MEMORY_READ(memory, image->gnu_hash, table))
		return 0;
	uint64_t at = chain_start(memory, image, &table, hash);
	for (; at && at < MAX_SYMBOLS; at++) {
		if (!MEMORY_READ(memory, chain_of(image, &table, at), word))
			return 0;
		uint64_t found = (word | 1) == (hash | 1) ? definition(memory, image, at, name) : 0;
		if (found || word & 1)
			return found;
	}
	return 0;
}

uint64_t symbols_find(struct process_memory *memory, const struct image *image, const char *name)
{
	if (!image->symbols || !image->names)
		return 0;
	return image->gnu_hash ? find_by_gnu_hash(memory, image, name)
			       : find_by_hash(memory, image, name);
}
