/* When memory was born and when it died: the lifetimes of each stack's blocks, and a matrix of the
 * memory that outlived the cell of time it was born in. Most blocks die in that cell and cost one
 * comparison. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector.h"

#define FIRST_SHIFT 18u /* about 0.1 ms at 3 GHz; cells grow with the run */
#define AGE_CELLS 512u
#define MOST_CELL (1u << 31) /* of the number of a cell */
#define MAX_CELLS (1u << 20)
#define MIN_CELLS 32u /* with MAX_CELLS entries */
#define TEMPORARY_S 1e-3

static uint64_t slot_of(const struct age_matrix *matrix, const struct age_cell *cell)
{
	uint64_t x =
		cell->stats * 0x9e3779b97f4a7c15ull ^ ((uint64_t)cell->born << 32 | cell->died);

	x *= 0xff51afd7ed558ccdull;
	return (x ^ x >> 32) & matrix->mask;
}

static void add_cell(struct age_matrix *matrix, const struct age_cell *cell)
{
	uint64_t at = slot_of(matrix, cell);

	for (; matrix->slots[at].stats; at = (at + 1) & matrix->mask) {
		struct age_cell *same = &matrix->slots[at];
		if (same->stats != cell->stats || same->born != cell->born ||
		    same->died != cell->died)
			continue;
		same->bytes += cell->bytes;
		same->count += cell->count;
		same->variance += cell->variance;
		return;
	}
	matrix->slots[at] = *cell;
	matrix->count++;
}

/* Moves all entries to a table of `slots`; cells become 2^more times as long. */
static bool rebuild(struct age_matrix *matrix, uint64_t slots, uint32_t more)
{
	struct age_matrix made = *matrix;

	made.slots = calloc(slots, sizeof *made.slots);
	if (!made.slots)
		return false;
	made.mask = slots - 1;
	made.count = 0;
	made.shift += more;
	for (uint64_t i = 0; matrix->slots && i <= matrix->mask; i++) {
		struct age_cell cell = matrix->slots[i];
		cell.born >>= more;
		cell.died >>= more;
		if (cell.stats && cell.born != cell.died)
			add_cell(&made, &cell);
	}
	free(matrix->slots);
	*matrix = made;
	return true;
}

/* How often cells must double to number `time`, which is in the last of them. */
static uint32_t doublings(const struct age_matrix *matrix, uint64_t time)
{
	uint64_t since = time > matrix->base ? time - matrix->base : 0;
	uint32_t more = 0;

	while (since >> (matrix->shift + more) >= AGE_CELLS ||
	       time >> (matrix->shift + more) >= MOST_CELL)
		more++;
	if (matrix->count >= MAX_CELLS && since >> (matrix->shift + more) >= MIN_CELLS)
		more++;
	return more;
}

/* Makes cells long enough for `time`, and reserves one entry more. */
static bool fit_time(struct age_matrix *matrix, uint64_t time)
{
	if (!matrix->slots) {
		matrix->shift = FIRST_SHIFT;
		if (!rebuild(matrix, 1024, 0))
			return false;
	}
	uint32_t more = doublings(matrix, time);
	if (more && !rebuild(matrix, matrix->mask + 1, more))
		return false;
	return matrix->count * 2 <= matrix->mask || rebuild(matrix, (matrix->mask + 1) * 2, 0);
}

static uint32_t birth_cell(const struct age_matrix *matrix, uint64_t born)
{
	if (born < matrix->base && matrix->coarse > matrix->shift)
		born = born >> matrix->coarse << matrix->coarse;
	return (uint32_t)(born >> matrix->shift);
}

void age_matrix_begin(struct age_matrix *matrix, uint64_t base)
{
	free(matrix->slots);
	*matrix = (struct age_matrix){.base = base};
	while (base >> matrix->coarse >= AGE_CELLS)
		matrix->coarse++;
}

static void note_lifetime(struct stack_stats *stats, double lived_s, struct weight weight)
{
	static const double limits[MEMATLAS_LIFETIME_CLASSES - 1] = {1e-4, 1e-3, 1e-2, 1e-1, 1, 10};
	int class = 0;

	while (class < MEMATLAS_LIFETIME_CLASSES - 1 && lived_s >= limits[class])
		class++;
	stats->lifetimes[class] += weight.count;
	if (lived_s < TEMPORARY_S)
		stats->temporary += weight.bytes;
}

void age_matrix_add(struct state *state, uint32_t stats, uint64_t born, uint64_t died,
		    struct weight weight)
{
	struct age_matrix *matrix = &state->age_matrix;

	if (state->tick_s == 0 || died < born || born < state->since)
		return;
	if (weight.count != 0)
		note_lifetime(&state->stats.items[stats], (double)(died - born) * state->tick_s,
			      weight);
	if (matrix->slots && born >> matrix->shift == died >> matrix->shift)
		return;
	if (!fit_time(matrix, died)) {
		state->out_of_memory = true;
		return;
	}
	struct age_cell cell = {stats + 1,
				birth_cell(matrix, born),
				(uint32_t)(died >> matrix->shift),
				weight.bytes,
				weight.count,
				weight.variance};
	if (cell.born != cell.died)
		add_cell(matrix, &cell);
}

bool age_matrix_copy(struct age_matrix *to, const struct age_matrix *from)
{
	*to = *from;
	if (!from->slots)
		return true;
	to->slots = malloc((from->mask + 1) * sizeof *to->slots);
	if (to->slots)
		memcpy(to->slots, from->slots, (from->mask + 1) * sizeof *to->slots);
	return to->slots != NULL;
}

void age_matrix_clear(struct age_matrix *matrix)
{
	if (matrix->slots)
		memset(matrix->slots, 0, (matrix->mask + 1) * sizeof *matrix->slots);
	matrix->count = 0;
}

int64_t mematlas_collector_lifetimes(struct mematlas_collector *collector, int index,
				     struct mematlas_lifetimes *rows, uint64_t capacity)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	const struct stack_stats_table *table = &process->state.stats;
	uint64_t count = 0;
	for (uint32_t i = 0; i < table->count && count < capacity; i++) {
		const struct stack_stats *stats = &table->items[i];
		double all = 0;
		for (int class = 0; class < MEMATLAS_LIFETIME_CLASSES; class++)
			all += stats->lifetimes[class];
		if (all <= 0)
			continue;
		struct mematlas_lifetimes *row = &rows[count++];
		*row = (struct mematlas_lifetimes){.stack = stats->node,
						   .kind = stats->kind,
						   .temporary_bytes = stats->temporary};
		memcpy(row->counts, stats->lifetimes, sizeof row->counts);
	}
	return (int64_t)count;
}

/* Room for what is live, so that the table is not moved again and again: at least an entry for each stack that
 * holds something. */
static bool reserve_living(struct age_matrix *matrix, const struct state *state)
{
	uint64_t live = state->blocks.count + state->ranges.count, stacks = state->stats.count;
	uint64_t most = matrix->count + (live < stacks ? live : stacks);
	uint64_t slots = matrix->mask + 1;

	while (most * 2 >= slots)
		slots *= 2;
	return slots == matrix->mask + 1 || rebuild(matrix, slots, 0);
}

static bool add_living(struct age_matrix *matrix, uint32_t stats, uint64_t born,
		       struct weight weight)
{
	struct age_cell cell = {stats + 1,      birth_cell(matrix, born),
				MEMATLAS_ALIVE, weight.bytes,
				weight.count,   weight.variance};

	add_cell(matrix, &cell);
	return matrix->count * 2 <= matrix->mask || rebuild(matrix, (matrix->mask + 1) * 2, 0);
}

/* Live memory has MEMATLAS_ALIVE for `died`, which is no cell. After this the cells of `matrix`
 * cannot be made longer. */
static bool add_live_blocks(struct age_matrix *matrix, const struct state *state)
{
	struct blocks_cursor cursor = {0};
	const struct block_info *block;
	uint64_t key;

	while ((block = blocks_next(&state->blocks, &cursor, &key))) {
		struct weight weight = weight_of(state->mean, block->size, block->always);
		if (block_born(block) >= state->since &&
		    !add_living(matrix, block->stats, block_born(block), weight))
			return false;
	}
	return true;
}

static bool add_live_ranges(struct age_matrix *matrix, const struct state *state)
{
	for (size_t i = 0; i < state->ranges.count; i++) {
		const struct range *range = &state->ranges.items[i];
		double size = range->reserved ? 0 : (double)(range->end - range->start);
		struct weight weight = {1, size, 0};
		if (counts_as_live(range->kind) && range->born >= state->since &&
		    !add_living(matrix, range->stats, range->born, weight))
			return false;
	}
	return true;
}

static int64_t list_rows(struct mematlas_collector *collector, const struct age_matrix *matrix,
			 const struct stack_stats_table *table)
{
	struct mematlas_age_cell *rows = malloc((matrix->count + 1) * sizeof *rows);
	uint64_t count = 0;

	if (!rows)
		return -ENOMEM;
	for (uint64_t i = 0; i <= matrix->mask; i++) {
		const struct age_cell *cell = &matrix->slots[i];
		if (!cell->stats || (fabs(cell->bytes) < 1e-3 && fabs(cell->count) < 1e-3))
			continue;
		const struct stack_stats *stats = &table->items[cell->stats - 1];
		rows[count++] = (struct mematlas_age_cell){stats->node,   stats->kind, cell->born,
							   cell->died,    cell->bytes, cell->count,
							   cell->variance};
	}
	free(collector->age_cells);
	collector->age_cells = rows;
	return (int64_t)count;
}

int64_t mematlas_collector_age_matrix(struct mematlas_collector *collector, int index,
				      double *cell_s, const struct mematlas_age_cell **rows)
{
	*cell_s = 0;
	*rows = NULL;
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	struct state *state = &process->state;
	struct age_matrix all;
	if (state->tick_s == 0)
		return 0;
	if (!fit_time(&state->age_matrix, clock_read(collector)) ||
	    !age_matrix_copy(&all, &state->age_matrix))
		return -ENOMEM;
	int64_t count = -ENOMEM;
	if (reserve_living(&all, state) && add_live_blocks(&all, state) &&
	    add_live_ranges(&all, state))
		count = list_rows(collector, &all, &state->stats);
	free(all.slots);
	*cell_s = (double)(1ull << state->age_matrix.shift) * state->tick_s;
	*rows = collector->age_cells;
	return count;
}
