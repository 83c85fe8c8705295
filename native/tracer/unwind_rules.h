/* The cache of unwind rules by program counter: one for all threads, without locks.
 *
 * An entry read while another thread replaces it does not match its key, and counts as a miss. The note
 * in a rule predicts the cache entry of its caller. A walk that follows predictions does not wait for
 * each return address to be read and looked up in turn; each prediction is checked against the key of
 * the PC that was read. */
#ifndef MEMATLAS_TRACER_UNWIND_RULES_H
#define MEMATLAS_TRACER_UNWIND_RULES_H

#include "unwind.h"

#define UNWIND_CACHE_BITS 16u /* an index fits the note */
_Static_assert(UNWIND_NOTE == (1u << UNWIND_CACHE_BITS) - 1, "an index fits the note");

/* check == key ^ trace_rule_mixed(rule), or the entry is empty */
struct trace_rule {
	uint64_t check, rule;
};

extern struct trace_rule *trace_rules;
extern _Atomic uint64_t trace_rules_generation;

/* Result of a look-up. `entry`: its index; -1: not cached. */
struct trace_rule_found {
	uint64_t rule;
	int32_t entry;
};
struct trace_rule_found trace_rule_find(uintptr_t pc, uint64_t generation);

/* Index where the search starts. */
static inline uint32_t trace_rule_slot(uintptr_t pc)
{
	return (uint32_t)(pc ^ pc >> UNWIND_CACHE_BITS) & ((1u << UNWIND_CACHE_BITS) - 1);
}

static inline uint64_t trace_rule_key(uintptr_t pc, uint64_t generation)
{
	return pc + (generation << 48);
}

static inline uint64_t trace_rule_mixed(uint64_t rule)
{
	return (rule >> 16) * 0x9e3779b97f4a7c15ull;
}

/* True: the entry has that key. */
static inline bool trace_rule_read(const struct trace_rule *entry, uint64_t key, uint64_t *rule)
{
	uint64_t check = __atomic_load_n(&entry->check, __ATOMIC_RELAXED);

	*rule = __atomic_load_n(&entry->rule, __ATOMIC_RELAXED);
	return (check ^ trace_rule_mixed(*rule)) == key;
}

/* Replaces a prediction. If another thread replaces the rule at the same time, the entry may match no key
 * from then on, which is harmless. */
static inline void trace_rule_predict(uint32_t index, uint64_t rule, uint32_t next)
{
	__atomic_store_n(&trace_rules[index].rule, (rule & ~UNWIND_NOTE) | next, __ATOMIC_RELAXED);
}

#endif
