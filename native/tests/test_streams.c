/* Events of several threads at random, against the plainest reading of them: one after the other, all sums kept by
 * hand. Totals, the number of deaths, the peak and each stack's share of it must be equal, not nearly. */
#define _GNU_SOURCE
#include "producer.h"
#include "random.h"

#define RINGS 4u
#define STACKS 30u
#define PLACES 5000u
#define EVENTS 200000u
#define CLASSES MEMATLAS_LIFETIME_CLASSES

struct sums {
	double allocated, allocations, freed, live, count;
};
struct live {
	uint64_t size; /* 0: none */
	uint32_t stack;
};

static uint64_t seed = 88172645463325252ull;
static uint64_t now = 1;
static struct live lives[PLACES];
static struct sums sums[STACKS][RECORD_KINDS];
static double shares[STACKS][RECORD_KINDS], live, peak;
static uint64_t deaths;

static uint64_t draw(uint64_t below)
{
	return random_next(&seed) % below;
}

static int kind_at(uint32_t place)
{
	return place % 3 ? TRACE_PYOBJECT : TRACE_MALLOC;
}

/* Half lie side by side, half far from each other. */
static uint64_t address_at(uint32_t place)
{
	return 0x10000 + (place % 2 ? place * 8ull : place * 70000ull);
}

static void add_live(uint32_t place, uint64_t size, uint32_t stack)
{
	struct sums *of = &sums[stack][kind_at(place)];

	lives[place] = (struct live){size, stack};
	of->live += (double)size;
	of->count += 1;
	live += (double)size;
	if (live <= peak)
		return;
	peak = live;
	for (uint32_t i = 0; i < STACKS; i++)
		for (uint32_t kind = 0; kind < RECORD_KINDS; kind++)
			shares[i][kind] = sums[i][kind].live;
}

static void remove_live(uint32_t place)
{
	struct sums *of = &sums[lives[place].stack][kind_at(place)];

	of->freed += (double)lives[place].size;
	of->live -= (double)lives[place].size;
	of->count -= 1;
	live -= (double)lives[place].size;
	lives[place].size = 0;
	deaths++;
}

/* Sometimes the free before it was not seen. */
static void allocate(struct producer *p, uint32_t ring, uint32_t place)
{
	uint64_t size = 1 + draw(draw(10) ? 300 : 100000);
	uint32_t stack = 1 + (uint32_t)draw(STACKS - 1);

	if (lives[place].size && draw(20))
		return;
	put_alloc(p, ring, now, kind_at(place), address_at(place), size, stack, 0);
	if (lives[place].size)
		remove_live(place);
	sums[stack][kind_at(place)].allocated += (double)size;
	sums[stack][kind_at(place)].allocations += 1;
	add_live(place, size, stack);
}

/* By any thread. Sometimes it is taken back: realloc() failed. */
static void release(struct producer *p, uint32_t ring, uint32_t place)
{
	struct live before = lives[place];

	put_free(p, ring, now, kind_at(place), address_at(place));
	if (before.size)
		remove_live(place);
	if (draw(30))
		return;
	PUT(p, ring, TRACE_RESTORE | ++now << 8,
	    address_at(place) | (uint64_t)kind_at(place) << 48);
	if (!before.size)
		return;
	sums[before.stack][kind_at(place)].freed -= (double)before.size;
	add_live(place, before.size, before.stack);
	deaths--;
}

static void check_row(const struct mematlas_total *row, uint64_t stack)
{
	const struct sums *of = &sums[stack][row->kind];

	CHECK(row->allocated_bytes == of->allocated && row->allocations == of->allocations);
	CHECK(row->freed_bytes == of->freed);
	CHECK(row->live_bytes == of->live && row->live_count == of->count);
	CHECK(row->peak_bytes == shares[stack][row->kind]);
}

static void check_totals(struct mematlas_collector *collector)
{
	static struct mematlas_total rows[4096];
	static struct mematlas_node nodes[4096];
	int64_t count = mematlas_collector_totals(collector, 0, rows, 4096);
	double seen = 0, expected = 0;

	int64_t made = mematlas_collector_nodes(collector, 0, 0, nodes, 4096);
	CHECK(made > 0);
	for (int64_t i = 0; i < made; i++)
		CHECK(nodes[i].hash == 0);
	for (int64_t i = 0; i < count; i++) {
		check_row(&rows[i], nodes[rows[i].stack].word);
		seen += rows[i].allocations;
	}
	for (uint32_t i = 0; i < STACKS; i++)
		for (uint32_t kind = 0; kind < RECORD_KINDS; kind++)
			expected += sums[i][kind].allocations;
	const struct state *state = &collector->processes[0]->state;
	CHECK(seen == expected && state->live == live && state->peak == peak);
	CHECK_STATE(state);
}

static void check_lifetimes(struct mematlas_collector *collector)
{
	static struct mematlas_lifetimes rows[4096];
	int64_t count = mematlas_collector_lifetimes(collector, 0, rows, 4096);
	double all = 0;

	for (int64_t i = 0; i < count; i++)
		for (int class = 0; class < CLASSES; class++)
			all += rows[i].counts[class];
	CHECK(all == (double)deaths);
}

/* The child has what is live now, and nothing else. */
static void check_fork(struct mematlas_collector *collector, struct producer *parent, uint32_t ring)
{
	static struct mematlas_total rows[4096];
	double bytes = 0, count = 0, expected = 0;

	PUT(parent, ring, TRACE_FORK | ++now << 8, 1);
	poll_all(collector);
	struct producer child = produce_fork(collector, getppid(), 1, parent->image, 1);
	announce(&child);
	poll_all(collector);
	int64_t found = mematlas_collector_totals(collector, 1, rows, 4096);
	CHECK(found > 0);
	for (int64_t i = 0; i < found; i++) {
		bytes += rows[i].live_bytes;
		count += rows[i].live_count;
		CHECK(rows[i].allocations == 0);
	}
	for (uint32_t place = 0; place < PLACES; place++)
		expected += lives[place].size != 0;
	CHECK(bytes == live && count == expected);
	CHECK_STATE(&collector->processes[1]->state);
}

int main(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), RINGS);

	announce(&p);
	for (uint32_t ring = 0; ring < RINGS; ring++)
		for (uint64_t id = 1; id < STACKS; id++)
			put_stack(&p, ring, id, id);
	for (uint32_t event = 0; event < EVENTS; event++, now++) {
		uint32_t ring = (uint32_t)draw(RINGS), place = (uint32_t)draw(PLACES);
		if (draw(event / 20000 % 2 ? 3 : 2))
			release(&p, ring, place);
		else
			allocate(&p, ring, place);
		if (event % 400 == 0)
			poll_all(collector);
		if (event % 20000 == 0)
			check_totals(collector);
	}
	poll_all(collector);
	check_totals(collector);
	check_lifetimes(collector);
	check_fork(collector, &p, 2);
	session_end(collector);
	puts("ok");
	return 0;
}
