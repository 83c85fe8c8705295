/* The table of statistics by (stack, kind). */
#include <string.h>

#include "../array.h"
#include "state.h"

#define FIRST_CAPACITY 256u

static uint32_t home_of(const struct stack_stats_table *table, uint32_t node)
{
	return (uint32_t)(node * 0x9e3779b97f4a7c15ull >> 32) & table->mask;
}

static void stats_link(struct stack_stats_table *table, uint32_t index)
{
	uint32_t at = home_of(table, table->items[index].node);

	while (table->slots[at].number)
		at = (at + 1) & table->mask;
	table->slots[at] = (struct stats_slot){table->items[index].node, index + 1};
}

static void link_all(struct stack_stats_table *table)
{
	memset(table->slots, 0, ((size_t)table->mask + 1) * sizeof *table->slots);
	for (uint32_t i = 0; i < table->count; i++)
		stats_link(table, i);
}

static bool fits(const struct stack_stats_table *table)
{
	return table->slots && (uint64_t)table->mask + 1 == 2 * (uint64_t)table->capacity;
}

/* Fits the slots to the capacity; false: no memory, and unchanged. */
static bool resize_slots(struct stack_stats_table *table)
{
	size_t slots = 2 * (size_t)table->capacity;
	struct stats_slot *made = calloc(slots, sizeof *made);

	if (!made)
		return false;
	prefer_huge_pages(made, slots * sizeof *made);
	free(table->slots);
	table->slots = made;
	table->mask = (uint32_t)(slots - 1);
	for (uint32_t i = 0; i < table->count; i++)
		stats_link(table, i);
	return true;
}

/* Without memory for the slots too, nothing may be added: probing ends at an empty slot. */
bool stack_stats_reserve(struct stack_stats_table *table)
{
	if (!ARRAY_RESERVE(table->items, table->count, table->capacity, FIRST_CAPACITY))
		return false;
	if (fits(table))
		return true;
	prefer_huge_pages(table->items, (size_t)table->capacity * sizeof *table->items);
	return resize_slots(table);
}

void stack_stats_prefetch(const struct stack_stats_table *table, uint32_t node)
{
	__builtin_prefetch(&table->slots[home_of(table, node)]);
}

uint32_t stack_stats_find(struct state *state, uint32_t node, uint32_t kind)
{
	struct stack_stats_table *table = &state->stats;

	for (uint32_t at = home_of(table, node); table->slots[at].number;
	     at = (at + 1) & table->mask) {
		struct stats_slot slot = table->slots[at];
		if (slot.node == node && table->items[slot.number - 1].kind == kind)
			return slot.number - 1;
	}
	if (!stack_stats_reserve(table)) {
		state->out_of_memory = true;
		return 0;
	}
	table->items[table->count] = (struct stack_stats){.node = node, .kind = kind};
	stats_link(table, table->count);
	return table->count++;
}

void stack_stats_clear(struct stack_stats_table *table)
{
	table->count = 0;
	link_all(table);
}

/* Makes the memory fit what is left. What cannot be made smaller stays as it is. */
static void shrink(struct stack_stats_table *table)
{
	uint32_t capacity = FIRST_CAPACITY;

	while (capacity < 2 * (uint64_t)table->count)
		capacity *= 2;
	if (capacity < table->capacity) {
		struct stack_stats *moved = realloc(table->items, capacity * sizeof *moved);
		table->items = moved ? moved : table->items;
		table->capacity = capacity;
	}
	if (fits(table) || !resize_slots(table))
		link_all(table);
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
	shrink(table);
}
