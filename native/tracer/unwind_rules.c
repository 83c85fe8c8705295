/* The cache of unwind rules. */
#include <sys/mman.h>

#include "memory.h"
#include "state.h"
#include "unwind_rules.h"

#define PROBES 4u
#define MASK ((1u << UNWIND_CACHE_BITS) - 1)

struct trace_rule *trace_rules;
_Atomic uint64_t trace_rules_generation;

bool trace_unwind_start(void)
{
	trace_walk_start();
	if (!trace_rules)
		trace_rules =
			trace_map(sizeof *trace_rules << UNWIND_CACHE_BITS, PROT_READ | PROT_WRITE);
	return trace_rules && trace_unwind_modules_start();
}

void trace_unwind_modules_changed(void)
{
	trace_unwind_modules_refresh();
	atomic_fetch_add(&trace_rules_generation, 1);
}

static TRACE_SLOW struct trace_rule_found add_rule(uintptr_t pc, uint64_t key, uint32_t slot)
{
	const uint8_t *tables = trace_eh_frame_hdr(pc);
	uint64_t rule = trace_cfi_rule(pc, tables);
	uint32_t at = slot;

	/* Not cached without a module, since one may be loaded there later. */
	if (!tables)
		return (struct trace_rule_found){rule, -1};
	while (at - slot < PROBES &&
	       __atomic_load_n(&trace_rules[at & MASK].rule, __ATOMIC_RELAXED) != 0)
		at++;
	if (at - slot == PROBES)
		at = slot + (uint32_t)(pc >> 4) % PROBES;
	at &= MASK;
	__atomic_store_n(&trace_rules[at].check, key ^ trace_rule_mixed(rule), __ATOMIC_RELAXED);
	__atomic_store_n(&trace_rules[at].rule, rule, __ATOMIC_RELAXED);
	return (struct trace_rule_found){rule, (int32_t)at};
}

struct trace_rule_found trace_rule_find(uintptr_t pc, uint64_t generation)
{
	uint64_t key = trace_rule_key(pc, generation);
	uint32_t slot = trace_rule_slot(pc);

	for (uint32_t at = slot; at - slot < PROBES; at++) {
		uint64_t rule;
		if (trace_likely(trace_rule_read(&trace_rules[at & MASK], key, &rule)))
			return (struct trace_rule_found){rule, (int32_t)(at & MASK)};
	}
	return add_rule(pc, key, slot);
}
