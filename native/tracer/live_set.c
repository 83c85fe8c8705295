/* The set of blocks recorded as live.
 *
 * Sampled: a few thousand addresses in a lock-free hash set that grows by adding tables, behind the
 * counting filter that fast paths read. Exact: one bit per 8 bytes of address space, so that a bad free
 * is noticed while its caller is still on the stack. The bitmap is allocated in chunks, since a limit on
 * address space must leave capacity for the program. */
#define _GNU_SOURCE
#include "live_set.h"

#include <string.h>
#include <sys/mman.h>

#include "memory.h"
#include "modules.h"
#include "syscall.h"

#define EMPTY 0ull
#define REMOVED 1ull
#define PROBES 64u
#define TABLES 8u
#define FIRST_BITS 13u

/* Open addressing; a key is EMPTY, REMOVED or key_of() a block.
 *
 *   used <= 1 << bits;  table i has FIRST_BITS + 2 * i bits */
struct table {
	uint64_t *slots;
	unsigned bits;
	_Atomic uint32_t used;
};

static const char unknown_threading;
const volatile char *trace_single_threaded = &unknown_threading;
static struct table tables[TABLES];
static _Atomic unsigned table_count;
trace_chunk trace_chunks[2][TRACE_CHUNKS];

static void filter_add(const void *block)
{
	uint8_t *bucket = &trace_filter[trace_filter_index(block)];
	uint8_t count = __atomic_load_n(bucket, __ATOMIC_RELAXED);

	while (count < 255 &&
	       !__atomic_compare_exchange_n(bucket, &count, (uint8_t)(count + 1), false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static void filter_remove(const void *block)
{
	uint8_t *bucket = &trace_filter[trace_filter_index(block)];
	uint8_t count = __atomic_load_n(bucket, __ATOMIC_RELAXED);

	while (count > 0 && count < 255 &&
	       !__atomic_compare_exchange_n(bucket, &count, (uint8_t)(count - 1), false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static uint64_t first_slot(const struct table *table, uint64_t address)
{
	return (address * 0x9e3779b97f4a7c15ull) >> (64 - table->bits);
}

/* One thread adds table number `index`; the others continue with the existing tables. */
static TRACE_SLOW bool add_table(unsigned index)
{
	static _Atomic bool adding;
	bool idle = false;

	if (index >= TABLES || !atomic_compare_exchange_strong(&adding, &idle, true))
		return false;
	if (atomic_load(&table_count) == index) {
		unsigned bits = FIRST_BITS + 2 * index;
		uint64_t *slots = trace_map(sizeof(uint64_t) << bits, PROT_READ | PROT_WRITE);
		if (slots) {
			tables[index].slots = slots;
			tables[index].bits = bits;
			atomic_store_explicit(&table_count, index + 1, memory_order_release);
		}
	}
	atomic_store(&adding, false);
	return atomic_load(&table_count) > index;
}

static bool insert(struct table *table, uint64_t address)
{
	uint64_t mask = (1ull << table->bits) - 1;
	uint64_t at = first_slot(table, address);

	for (unsigned i = 0; i < PROBES; i++, at = (at + 1) & mask) {
		uint64_t seen = __atomic_load_n(&table->slots[at], __ATOMIC_RELAXED);
		if (seen > REMOVED)
			continue;
		if (__atomic_compare_exchange_n(&table->slots[at], &seen, address, false,
						__ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
			atomic_fetch_add_explicit(&table->used, 1, memory_order_relaxed);
			return true;
		}
	}
	return false;
}

static bool erase(struct table *table, uint64_t address)
{
	uint64_t mask = (1ull << table->bits) - 1;
	uint64_t at = first_slot(table, address);

	for (unsigned i = 0; i < PROBES; i++, at = (at + 1) & mask) {
		uint64_t seen = __atomic_load_n(&table->slots[at], __ATOMIC_RELAXED);
		if (seen == EMPTY)
			return false;
		if (seen == address &&
		    __atomic_compare_exchange_n(&table->slots[at], &seen, REMOVED, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			atomic_fetch_sub_explicit(&table->used, 1, memory_order_relaxed);
			return true;
		}
	}
	return false;
}

uint64_t trace_no_chunk;

static void clear_tables(void)
{
	unsigned count = atomic_load(&table_count);

	for (unsigned i = 0; i < count; i++) {
		memset(tables[i].slots, 0, sizeof(uint64_t) << tables[i].bits);
		atomic_store(&tables[i].used, 0);
	}
}

static void clear_bitmaps(void)
{
	for (unsigned which = 0; which < 2; which++)
		for (unsigned i = 0; i < TRACE_CHUNKS; i++)
			if (trace_chunks[which][i] && trace_chunks[which][i] != &trace_no_chunk)
				trace_syscall(SYS_madvise, trace_chunks[which][i],
					      TRACE_CHUNK_BYTES, MADV_DONTNEED);
}

static void find_threading(void)
{
	struct trace_symbol found;

	if (trace_symbol_from(trace_first_module(), "__libc_single_threaded", &found))
		trace_single_threaded = found.address;
}

bool trace_live_start(void)
{
	find_threading();
	clear_tables();
	if (trace_session.attached && trace_generation > 1)
		clear_bitmaps();
	if (!trace_session.exact) {
		memset(trace_filter, 0, sizeof trace_filter);
		return atomic_load(&table_count) > 0 || add_table(0);
	}
	memset(trace_filter, 1, sizeof trace_filter);
	return true;
}

/* A block that Python obtained from malloc() is in the set twice: the lowest bit is the kind. */
static uint64_t key_of(enum trace_kind kind, const void *block)
{
	return ((uint64_t)(uintptr_t)block & ((1ull << TRACE_ADDRESS_BITS) - 1)) |
	       (kind == TRACE_PYOBJECT);
}

TRACE_SLOW uint64_t *trace_chunk_add(trace_chunk *slot)
{
	uint64_t *none = NULL, *chunk = trace_map(TRACE_CHUNK_BYTES, PROT_READ | PROT_WRITE);

	if (atomic_compare_exchange_strong(slot, &none, chunk ? chunk : &trace_no_chunk))
		return chunk ? chunk : &trace_no_chunk;
	if (chunk)
		trace_unmap(chunk, TRACE_CHUNK_BYTES);
	return none;
}

bool trace_table_add(enum trace_kind kind, const void *block)
{
	uint64_t address = key_of(kind, block);
	unsigned count = atomic_load_explicit(&table_count, memory_order_acquire);
	struct table *newest = &tables[count - 1];
	if (atomic_load_explicit(&newest->used, memory_order_relaxed) >> (newest->bits - 1) &&
	    add_table(count))
		newest = &tables[count];
	if (!insert(newest, address) && !(add_table(count) && insert(&tables[count], address)))
		return false;
	filter_add(block);
	return true;
}

bool trace_table_remove(enum trace_kind kind, const void *block)
{
	uint64_t address = key_of(kind, block);

	for (unsigned i = atomic_load_explicit(&table_count, memory_order_acquire); i-- > 0;) {
		if (erase(&tables[i], address)) {
			filter_remove(block);
			return true;
		}
	}
	return false;
}

/* Blocks allocated before the session was joined: freeing them later is no bad free. */
#define MAX_DEFERRED 4096u
static const void *deferred[MAX_DEFERRED];
static _Atomic unsigned deferred_count;

void trace_live_defer(const void *block)
{
	unsigned index = atomic_fetch_add(&deferred_count, 1);

	if (index < MAX_DEFERRED)
		deferred[index] = block;
}

void trace_live_add_deferred(void)
{
	unsigned count = atomic_load(&deferred_count);

	for (unsigned i = 0; trace_session.exact && i < count && i < MAX_DEFERRED; i++)
		trace_live_add(TRACE_MALLOC, deferred[i]);
}
