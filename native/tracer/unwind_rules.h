/* Rules of program counters, kept in one cache for all threads, without locks.
 *
 * A rule's `check` is the key mixed with the rule, so an entry read while it is being replaced does not
 * match and is a miss. The note in a rule is a guess: the entry of the caller that was met there
 * before. A walk that follows guesses need not wait for one return address after the other to be
 * read and looked up; each guess is held against the key of the PC that was really there. */
#ifndef MEMATLAS_TRACER_UNWIND_RULES_H
#define MEMATLAS_TRACER_UNWIND_RULES_H

#include "unwind.h"

#define UNWIND_CACHE_BITS 16u /* as many as a note has */

struct trace_rule {
	uint64_t check, rule;
};

extern struct trace_rule *trace_rules;
extern _Atomic uint64_t trace_rules_generation;

/* What a look-up found: the rule, and its entry's number, -1 where it is not kept. */
struct trace_rule_found {
	uint64_t rule;
	int32_t entry;
};
struct trace_rule_found trace_rule_find(uintptr_t pc, uint64_t generation);

/* Where it is looked for first. */
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

/* Is `entry` that of `key`? */
static inline bool trace_rule_read(const struct trace_rule *entry, uint64_t key, uint64_t *rule)
{
	uint64_t check = __atomic_load_n(&entry->check, __ATOMIC_RELAXED);

	*rule = __atomic_load_n(&entry->rule, __ATOMIC_RELAXED);
	return (check ^ trace_rule_mixed(*rule)) == key;
}

/* Another guess. Two threads may write at once, or one may put a new rule there meanwhile: at worst
 * the entry matches nothing from then on. */
static inline void trace_rule_guess(uint32_t index, uint64_t rule, uint32_t next)
{
	__atomic_store_n(&trace_rules[index].rule, (rule & ~UNWIND_NOTE) | next, __ATOMIC_RELAXED);
}

#endif
