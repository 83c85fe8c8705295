/* Counts live Python objects by type. A block is taken for an object if it has a plausible
 * reference count and a pointer to a type behind it. A type is recognised by its own type, which is
 * `type` or a subclass of it, so that no symbols are needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "sweep.h"

#define WINDOW (64u << 10)
#define HEAD_WORDS                                                                                 \
	6u /* an object may have words before it: links of the GC, its dict, weak references */
#define MAX_INSPECTED (4u << 20)
#define CACHE_BITS 14u
#define MAX_TYPES 65536u
#define MAX_CELLS (1u << 18)

/* Words of a type object behind its own type; the same in every version of CPython so far. */
#define TYPE_NAME 2
#define TYPE_FLAGS 20
#define TYPE_WORDS (3 + TYPE_FLAGS + 1)
#define IS_METATYPE (1ull << 31) /* Py_TPFLAGS_TYPE_SUBCLASS */
#define MAX_METATYPES 3

struct cell {
	uint32_t stats, type; /* both index + 1; 0: empty */
	struct weight weight;
};

struct census {
	struct mematlas_collector *collector;
	struct process *process;
	int pid;
	/* Word of an object that points to its type: behind the reference count or, free-threaded,
	 * behind the owning thread and two counts. */
	unsigned type_word;
	struct {
		uint64_t address;
		int32_t type; /* -1: no type */
	} cache[1u << CACHE_BITS];
	char (*names)[MEMATLAS_TYPE_NAME];
	uint64_t *types; /* addresses */
	uint32_t type_count, type_capacity;
	struct cell *cells;
	uint32_t mask, cell_count;
	double step; /* one block of `step` is inspected */
	int error;
};

static bool read_words(const struct census *census, uint64_t address, uint64_t *words, size_t count)
{
	struct iovec to = {words, count * 8};
	struct iovec from = {(void *)(uintptr_t)address, count * 8};

	return process_vm_readv(census->pid, &to, 1, &from, 1, 0) == (ssize_t)(count * 8);
}

static bool is_plausible(uint64_t address)
{
	return address > TRACE_MIN_PAGE && (address & 7) == 0 && address >> TRACE_ADDRESS_BITS == 0;
}

/* Is the object at this address `type` or a subclass of it? */
static bool is_metatype(const struct census *census, uint64_t address)
{
	unsigned at = census->type_word;
	uint64_t words[TYPE_WORDS];

	for (int i = 0; i < MAX_METATYPES; i++) {
		if (!is_plausible(address) || !read_words(census, address, words, TYPE_WORDS) ||
		    !(words[at + TYPE_FLAGS] & IS_METATYPE))
			return false;
		if (words[at] == address)
			return true;
		address = words[at];
	}
	return false;
}

static bool read_name(const struct census *census, uint64_t address, char *name)
{
	struct iovec to = {name, MEMATLAS_TYPE_NAME - 1};
	struct iovec from = {(void *)(uintptr_t)address, MEMATLAS_TYPE_NAME - 1};
	size_t to_page = page_ceil(address + 1) - address;

	if (address < TRACE_MIN_PAGE || address >> TRACE_ADDRESS_BITS)
		return false;
	memset(name, 0, MEMATLAS_TYPE_NAME);
	if (process_vm_readv(census->pid, &to, 1, &from, 1, 0) <=
	    0) { /* the next page is not mapped */
		to.iov_len = from.iov_len = to_page < to.iov_len ? to_page : to.iov_len;
		if (process_vm_readv(census->pid, &to, 1, &from, 1, 0) <= 0)
			return false;
	}
	size_t length = strlen(name);
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f)
			return false;
	return length > 0;
}

static int32_t add_type(struct census *census, uint64_t address, const char *name)
{
	for (uint32_t i = 0; i < census->type_count; i++)
		if (census->types[i] == address)
			return (int32_t)i;
	if (census->type_count == MAX_TYPES)
		return -1;
	if (census->type_count == census->type_capacity) {
		uint32_t capacity = census->type_capacity ? census->type_capacity * 2 : 256;
		void *names = realloc(census->names, capacity * sizeof *census->names);
		if (names)
			census->names = names;
		uint64_t *types = names ? realloc(census->types, capacity * sizeof *types) : NULL;
		if (!types) {
			census->error = -ENOMEM;
			return -1;
		}
		census->types = types;
		census->type_capacity = capacity;
	}
	memcpy(census->names[census->type_count], name, MEMATLAS_TYPE_NAME);
	census->types[census->type_count] = address;
	return (int32_t)census->type_count++;
}

static int32_t type_at(struct census *census, uint64_t address)
{
	uint64_t slot = (address >> 4) * 0x9e3779b97f4a7c15ull >> (64 - CACHE_BITS);
	unsigned at = census->type_word;
	uint64_t words[TYPE_WORDS];
	char name[MEMATLAS_TYPE_NAME];
	int32_t type = -1;

	if (census->cache[slot].address == address)
		return census->cache[slot].type;
	if (read_words(census, address, words, at + TYPE_NAME + 1) &&
	    is_metatype(census, words[at]) && read_name(census, words[at + TYPE_NAME], name))
		type = add_type(census, address, name);
	census->cache[slot].address = address;
	census->cache[slot].type = type;
	return type;
}

/* A live object's count is not 0 and has 32 bits; CPython 3.14 has flags above bit 48. An array of
 * pointers fails this. */
static bool is_count(uint64_t word)
{
	return (uint32_t)word != 0 && (word >> 32 & 0xffff) == 0;
}

/* Free-threaded CPython: the owning thread; 16 bits of flags, a lock, the bits of the garbage
 * collector and the owner's count; the count of the other threads. */
static bool is_shared_count(const uint64_t *head)
{
	uint8_t lock = (uint8_t)(head[1] >> 16);

	return (head[0] & 7) == 0 && head[0] >> TRACE_ADDRESS_BITS == 0 && lock < 4 &&
	       (head[1] >> 32 != 0 || head[2] != 0);
}

static bool is_head(const struct census *census, const uint64_t *head)
{
	return census->type_word == 1 ? is_count(head[0]) : is_shared_count(head);
}

static int32_t type_of(struct census *census, const uint64_t *head, size_t words)
{
	unsigned type_word = census->type_word;

	for (size_t at = 0; at + type_word < words; at += 2) {
		if (!is_head(census, head + at) || !is_plausible(head[at + type_word]))
			continue;
		int32_t type = type_at(census, head[at + type_word]);
		if (type >= 0)
			return type;
	}
	return -1;
}

static bool grow(struct census *census)
{
	uint32_t mask = census->mask * 2 + 1;
	struct cell *cells = calloc(mask + 1ull, sizeof *cells);

	if (!cells)
		return false;
	for (uint32_t i = 0; census->cells && i <= census->mask; i++) {
		const struct cell *cell = &census->cells[i];
		uint32_t at = (cell->stats * 0x9e3779b1u ^ cell->type * 0x85ebca6bu) & mask;
		if (!cell->stats)
			continue;
		while (cells[at].stats)
			at = (at + 1) & mask;
		cells[at] = *cell;
	}
	free(census->cells);
	census->cells = cells;
	census->mask = mask;
	return true;
}

static void count(struct census *census, const struct span *block, int32_t type)
{
	struct weight weight =
		weight_of(census->process->state.mean, block->end - block->start, block->always);
	uint32_t stats = block->stats + 1, number = (uint32_t)type + 1;
	double step = census->step;

	if (census->cell_count >= census->mask / 2 && census->mask < MAX_CELLS && !grow(census)) {
		census->error = -ENOMEM;
		return;
	}
	uint32_t at = (stats * 0x9e3779b1u ^ number * 0x85ebca6bu) & census->mask;
	while (census->cells[at].stats &&
	       (census->cells[at].stats != stats || census->cells[at].type != number))
		at = (at + 1) & census->mask;
	struct cell *cell = &census->cells[at];
	if (!cell->stats) {
		if (census->cell_count >= census->mask - 1)
			return; /* the table is full and may not grow */
		census->cell_count++;
		cell->stats = stats;
		cell->type = number;
	}
	cell->weight.count += weight.count * step;
	cell->weight.bytes += weight.bytes * step;
	cell->weight.variance +=
		weight.variance * step + weight.bytes * weight.bytes * step * (step - 1);
}

/* A piece of the process's memory. Neighbouring objects are read with one system call. */
struct window {
	uint64_t start, end;
	uint8_t bytes[WINDOW];
};

static uint64_t head_end(const struct span *block)
{
	uint64_t most = block->start + HEAD_WORDS * 8;

	return most < block->end ? most : block->end;
}

/* Reads from the head of a block to that of the last block that fits. All of it is resident,
 * because the census must not bring pages back from swap. */
static void read_window(struct census *census, struct window *window, const struct spans *blocks,
			size_t at, const struct run *pages)
{
	uint64_t start = blocks->items[at].start, end = start;
	uint64_t most = start + WINDOW < pages->end ? start + WINDOW : pages->end;

	for (; at < blocks->count && head_end(&blocks->items[at]) <= most; at++)
		end = head_end(&blocks->items[at]);
	struct iovec to = {window->bytes, end - start};
	struct iovec from = {(void *)(uintptr_t)start, end - start};
	ssize_t got = process_vm_readv(census->pid, &to, 1, &from, 1, 0);
	if (got < 0 && errno != EFAULT)
		census->error = -errno;
	window->start = start;
	window->end = start + (got < 0 ? 0 : (uint64_t)got);
}

static void inspect(struct census *census, struct window *window, const struct spans *blocks,
		    size_t at, const struct run *pages)
{
	const struct span *block = &blocks->items[at];
	uint64_t head[HEAD_WORDS];
	uint64_t end = head_end(block) & ~7ull;

	if (end < block->start + 16 || (block->start & 7) || end > pages->end)
		return;
	if (block->start < window->start || end > window->end)
		read_window(census, window, blocks, at, pages);
	if (end > window->end)
		return;
	memcpy(head, window->bytes + (block->start - window->start), end - block->start);
	int32_t type = type_of(census, head, (end - block->start) / 8);
	if (type >= 0)
		count(census, block, type);
}

/* Keeps only the resident runs, and merges neighbours. */
static void join_resident(struct runs *runs)
{
	size_t kept = 0;

	for (size_t i = 0; i < runs->count; i++) {
		const struct run *run = &runs->items[i];
		if (!(run->state & PAGES_RESIDENT))
			continue;
		if (kept && runs->items[kept - 1].end == run->start)
			runs->items[kept - 1].end = run->end;
		else
			runs->items[kept++] = *run;
	}
	runs->count = kept;
}

static void inspect_resident(struct census *census, struct window *window,
			     const struct spans *blocks, const struct runs *runs)
{
	size_t step = blocks->count / MAX_INSPECTED + 1, run = 0;

	census->step = (double)step;
	for (size_t i = 0; i < blocks->count && !census->error; i += step) {
		uint64_t start = blocks->items[i].start;
		while (run < runs->count && runs->items[run].end <= start)
			run++;
		if (run == runs->count)
			break;
		const struct run *pages = &runs->items[run];
		if (pages->start <= start)
			inspect(census, window, blocks, i, pages);
		if (i % 65536 == 0)
			collector_heartbeat(census->collector);
	}
}

static void inspect_all(struct census *census, struct window *window)
{
	CLEANUP(join_free) struct join join = {0};
	int proc = census->process->dir;

	census->error = vmas_read(proc, &join.vmas);
	if (!census->error)
		census->error = runs_read(census->collector, proc, &join.vmas, &join.runs);
	if (!census->error)
		census->error = spans_of_blocks(&census->process->state.blocks, &join.blocks);
	join_resident(&join.runs);
	if (!census->error)
		inspect_resident(census, window, &join.blocks, &join.runs);
	if (process_is_gone(census->process)) /* the PID may have been another process's */
		census->error = -ESRCH;
}

static int64_t list_rows(const struct census *census, struct mematlas_object *rows,
			 uint64_t capacity)
{
	const struct stack_stats_table *table = &census->process->state.stats;
	uint64_t count = 0;

	for (uint32_t i = 0; i <= census->mask && count < capacity; i++) {
		const struct cell *cell = &census->cells[i];
		if (cell->stats)
			rows[count++] = (struct mematlas_object){
				table->items[cell->stats - 1].node,
				cell->type - 1,
				cell->weight.bytes,
				cell->weight.count,
				cell->weight.variance,
			};
	}
	return (int64_t)count;
}

static void free_census(struct census *const *census)
{
	if (!*census)
		return;
	free((*census)->cells);
	free((*census)->names);
	free((*census)->types);
	free(*census);
}

int64_t mematlas_collector_objects(struct mematlas_collector *collector, int index,
				   struct mematlas_object *rows, uint64_t capacity,
				   char (*names)[MEMATLAS_TYPE_NAME], uint64_t name_capacity)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	if (!process->shared->python_version)
		return 0;
	CLEANUP(free_census) struct census *census = calloc(1, sizeof *census);
	CLEANUP_FREE struct window *window = malloc(sizeof *window);
	if (!census || !window)
		return -ENOMEM;
	census->collector = collector;
	census->process = process;
	census->pid = process->pid;
	census->type_word = process->shared->python_free_threaded ? 3 : 1;
	census->mask = 511;
	window->start = window->end = 0;
	if (!grow(census))
		return -ENOMEM;
	inspect_all(census, window);
	if (census->error)
		return census->error;
	int64_t count = list_rows(census, rows, capacity);
	if (count > 0)
		memcpy(names, census->names,
		       (census->type_count < name_capacity ? census->type_count : name_capacity) *
			       sizeof *names);
	return count;
}
