/* The table of statistics by (stack, kind). */
#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u

static uint32_t home_of(const struct stack_stats_table *table, uint32_t node, uint32_t kind)
{
	return (uint32_t)hash_mix(node, kind) & table->mask;
}

static void stats_link(struct stack_stats_table *table, uint32_t index)
{
	uint32_t at = home_of(table, table->items[index].node, table->items[index].kind);

	while (table->table[at])
		at = (at + 1) & table->mask;
	table->table[at] = index + 1;
}

bool stack_stats_reserve(struct stack_stats_table *table)
{
	if (!ARRAY_RESERVE(table->items, table->count, table->capacity, FIRST_CAPACITY))
		return false;
	if (hash_table_fits(table->table, table->mask, table->capacity))
		return true;
	if (!hash_table_grow(&table->table, &table->mask, table->capacity))
		return false;
	for (uint32_t i = 0; i < table->count; i++)
		stats_link(table, i);
	return true;
}

uint32_t stack_stats_find(struct state *state, uint32_t node, uint32_t kind)
{
	struct stack_stats_table *table = &state->stats;

	for (uint32_t at = home_of(table, node, kind); table->table[at];
	     at = (at + 1) & table->mask) {
		const struct stack_stats *found = &table->items[table->table[at] - 1];
		if (found->node == node && found->kind == kind)
			return table->table[at] - 1;
	}
	if (!stack_stats_reserve(table)) {
		state->out_of_memory = true;
		return 0;
	}
	table->items[table->count] = (struct stack_stats){.node = node, .kind = kind};
	stats_link(table, table->count);
	return table->count++;
}

void stack_stats_compact(struct stack_stats_table *table, struct kept *kept)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < table->count; i++) {
		if (!kept->stats[i])
			continue;
		table->items[count] = table->items[i];
		table->items[count].node = kept->nodes[table->items[i].node];
		kept->stats[i] = ++count;
	}
	table->count = count;
	table->items = hash_table_shrink(table->items, sizeof *table->items, count,
					 &table->capacity, &table->table, &table->mask);
	for (uint32_t i = 0; i < count; i++)
		stats_link(table, i);
}
