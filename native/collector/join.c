/* The join itself: one upward sweep over mappings, page runs, owners and blocks.
 *
 * Memory in which blocks lie forms pools (the heap, arenas, ...). In a pool, resident bytes under
 * blocks are live, the rest is slack. When sampling, a block stands for 1/p like it: live is an
 * estimate, cut so that live + slack is what is resident in the pool. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

enum pool {
	POOL_NONE, /* bytes go to a named part; blocks here count as they lie */
	POOL_USER,
	POOL_HEAP,
	POOL_ARENA,
	POOL_PYMALLOC,
	POOL_ALLOCATOR,
	POOL_MAPPED, /* anonymous memory in which blocks were found */
	POOLS
};

static const char *const pool_names[POOLS] = {
	[POOL_HEAP] = "glibc heap",
	[POOL_ARENA] = "glibc arena",
	[POOL_PYMALLOC] = "pymalloc arena",
	[POOL_ALLOCATOR] = "mapping of an allocator",
	[POOL_MAPPED] = "around mapped blocks",
};

#define ARENA_ALIGN (64ull << 20)
#define NO_PART UINT32_MAX

struct tally {
	uint64_t covered, bare; /* resident bytes under blocks, and not */
	double estimate, variance;
};

/* Where the sweep is: what a byte of this mapping is when nobody else owns it. */
struct place {
	enum pool pool;
	uint32_t part;  /* with POOL_NONE */
	bool anonymous; /* private memory without a file: what owners speak of */
};

struct join {
	struct mematlas_collector *collector;
	struct process *process;
	struct vmas vmas;
	struct runs runs;
	struct spans blocks, owners;
	struct place place;
	uint32_t tracer_part, stack_part, anon_part;
	struct tally tallies[POOLS];
	bool failed;
};

static uint32_t part_index(struct join *join, uint32_t kind, const char *name)
{
	struct mematlas_collector *collector = join->collector;

	for (uint32_t i = collector->part_count; i-- > 0;)
		if (collector->parts[i].kind == kind &&
		    strncmp(collector->parts[i].name, name, sizeof collector->parts[i].name - 1) ==
			    0)
			return i;
	if (collector->part_count == collector->part_room) {
		uint32_t room = collector->part_room ? collector->part_room * 2 : 64;
		struct mematlas_part *parts = realloc(collector->parts, room * sizeof *parts);
		if (!parts) {
			join->failed = true;
			return 0;
		}
		collector->parts = parts;
		collector->part_room = room;
	}
	struct mematlas_part *part = &collector->parts[collector->part_count];
	memset(part, 0, sizeof *part);
	part->kind = kind;
	strncpy(part->name, name, sizeof part->name - 1);
	return collector->part_count++;
}

/* ---- what a mapping is ---- */

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The session's last directory name is random enough to be told from any other. */
static bool is_session_file(const struct join *join, const char *name)
{
	const char *base = strrchr(join->collector->directory, '/');

	base = base ? base : join->collector->directory;
	const char *found = strstr(name, base);
	return found && found[strlen(base)] == '/';
}

static bool is_tracer_library(const char *name)
{
	const char *base = strrchr(name, '/');

	return base && starts_with(base, "/libmematlas_trace.so");
}

static bool is_shared_memory(const struct vma *vma)
{
	return starts_with(vma->name, "/memfd:") || starts_with(vma->name, "/SYSV") ||
	       starts_with(vma->name, "/dev/shm/") || starts_with(vma->name, "/dev/zero") ||
	       (vma->permissions[3] == 's' && *vma->name != '/');
}

/* A glibc arena: 64 MiB-aligned, the part not yet used put aside behind it. */
static bool is_glibc_arena(const struct vmas *vmas, size_t i)
{
	const struct vma *vma = &vmas->items[i], *next = vma + 1;

	if (vma->start % ARENA_ALIGN || strncmp(vma->permissions, "rw", 2) != 0)
		return false;
	if (vma->end % ARENA_ALIGN == 0)
		return vma->end - vma->start == ARENA_ALIGN;
	return i + 1 < vmas->count && next->start == vma->end && *next->name == 0 &&
	       strncmp(next->permissions, "---", 3) == 0 && next->end % ARENA_ALIGN == 0;
}

static bool was_seen(const struct process *process, uint64_t start)
{
	for (size_t i = 0; i < process->seen_count; i++)
		if (process->seen_vmas[i] == start)
			return true;
	return false;
}

/* Do blocks lie in this mapping, or did they at an earlier join? */
static bool holds_blocks(struct join *join, const struct vma *vma)
{
	struct process *process = join->process;
	uint64_t end = vma->end, at = vma->start;

	if (was_seen(process, vma->start))
		return true;
	if (!span_at(&join->blocks, at, &end) && end == vma->end)
		return false;
	if (process->seen_count == process->seen_room) {
		size_t room = process->seen_room ? process->seen_room * 2 : 64;
		uint64_t *seen = realloc(process->seen_vmas, room * sizeof *seen);
		if (!seen)
			return true;
		process->seen_vmas = seen;
		process->seen_room = room;
	}
	process->seen_vmas[process->seen_count++] = vma->start;
	return true;
}

static struct place named(struct join *join, uint32_t kind, const char *name)
{
	return (struct place){POOL_NONE, part_index(join, kind, name), false};
}

static struct place place_unnamed(struct join *join, size_t i, const struct place *before)
{
	const struct vma *vma = &join->vmas.items[i];
	struct place place = {.anonymous = true, .part = NO_PART};

	if (is_glibc_arena(&join->vmas, i)) {
		place.pool = POOL_ARENA;
	} else if (i > 0 && vma[-1].end == vma->start && vma[-1].inode && before->part != NO_PART) {
		place.part = before->part; /* the .bss behind the file it belongs to */
	} else if (holds_blocks(join, vma)) {
		place.pool = POOL_MAPPED;
	} else {
		place.part = join->anon_part;
	}
	return place;
}

static struct place place_of(struct join *join, size_t i, const struct place *before)
{
	const struct vma *vma = &join->vmas.items[i];

	if (is_session_file(join, vma->name) || is_tracer_library(vma->name) ||
	    starts_with(vma->name, "[anon:mematlas"))
		return (struct place){POOL_NONE, join->tracer_part, false};
	if (strcmp(vma->name, "[heap]") == 0)
		return (struct place){POOL_HEAP, NO_PART, false};
	if (strcmp(vma->name, "[stack]") == 0)
		return named(join, MEMATLAS_PART_STACK, "main thread");
	if (is_shared_memory(vma))
		return named(join, MEMATLAS_PART_SHARED,
			     *vma->name && !starts_with(vma->name, "/dev/zero") ? vma->name
										: "anonymous");
	if (*vma->name == '/' || strcmp(vma->name, "[vdso]") == 0)
		return named(join, MEMATLAS_PART_FILE, vma->name);
	if (*vma->name == 0)
		return place_unnamed(join, i, before);
	struct place place = named(join, MEMATLAS_PART_ANON, vma->name);
	place.anonymous = true;
	return place;
}

/* ---- who gets the bytes ---- */

static void add_to_sum(struct join *join, uint32_t index, double bytes, uint32_t state)
{
	struct sum *sum = &join->process->state.sums.items[index];

	if (state & PAGES_SWAPPED) {
		sum->swapped += bytes;
		return;
	}
	sum->resident += bytes;
	if (state & PAGES_HUGE)
		sum->huge += bytes;
}

static void give_to_block(struct join *join, enum pool pool, const struct span *span,
			  uint64_t bytes, uint32_t state)
{
	struct weight weight =
		weigh(join->process->state.mean, span->end - span->start, span->always);
	struct tally *tally = &join->tallies[pool];
	double estimate = (double)bytes * weight.count;

	add_to_sum(join, span->sum, estimate, state);
	if (!(state & PAGES_RESIDENT))
		return;
	tally->covered += bytes;
	tally->estimate += estimate;
	tally->variance += estimate * estimate * (1 - 1 / weight.count);
}

/* Bytes no block covers. */
static void give_to_place(struct join *join, enum pool pool, uint32_t part,
			  const struct span *owner, uint64_t bytes, uint32_t state)
{
	if (owner && (owner->owner == OWNER_USER || owner->owner == OWNER_FILEMAP))
		add_to_sum(join, owner->sum, (double)bytes, state);
	if (!(state & PAGES_RESIDENT))
		return;
	if (pool == POOL_NONE)
		join->collector->parts[part].resident_bytes += bytes;
	else
		join->tallies[pool].bare += bytes;
}

/* What `owner` makes of the place the sweep is in. An owner the mapping gainsays is out of date. */
static enum pool pool_of(const struct join *join, const struct span **owner, uint32_t *part)
{
	static const enum pool pools[] = {
		[OWNER_USER] = POOL_USER,
		[OWNER_ALLOCATOR] = POOL_ALLOCATOR,
		[OWNER_PYMALLOC] = POOL_PYMALLOC,
	};
	const struct place *place = &join->place;

	*part = place->part;
	if (!*owner || (*owner)->owner == OWNER_FILEMAP)
		return place->pool;
	if (!place->anonymous) {
		*owner = NULL;
		return place->pool;
	}
	if ((*owner)->owner == OWNER_TRACER || (*owner)->owner == OWNER_STACK) {
		*part = (*owner)->owner == OWNER_TRACER ? join->tracer_part : join->stack_part;
		return POOL_NONE;
	}
	return pools[(*owner)->owner];
}

static void sweep_run(struct join *join, uint64_t at, uint64_t end, uint32_t state)
{
	while (at < end) {
		uint64_t owned = end;
		uint32_t part;
		const struct span *owner = span_at(&join->owners, at, &owned);
		enum pool pool = pool_of(join, &owner, &part);
		while (at < owned) {
			uint64_t until = owned;
			const struct span *block = span_at(&join->blocks, at, &until);
			if (block)
				give_to_block(join, pool, block, until - at, state);
			else
				give_to_place(join, pool, part, owner, until - at, state);
			at = until;
		}
	}
}

static void sweep(struct join *join)
{
	struct place before = {.part = NO_PART};
	size_t run = 0;

	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		join->place = place_of(join, i, &before);
		before = join->place;
		if (vma->no_pages)
			continue;
		while (run < join->runs.count && join->runs.items[run].end <= vma->start)
			run++;
		for (size_t r = run; r < join->runs.count && join->runs.items[r].start < vma->end;
		     r++) {
			const struct run *pages = &join->runs.items[r];
			sweep_run(join, pages->start > vma->start ? pages->start : vma->start,
				  pages->end < vma->end ? pages->end : vma->end, pages->state);
			run = r;
		}
		if (i % 1024 == 0)
			collector_beat(join->collector);
	}
}

/* ---- the account ---- */

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* Live and slack of one pool; what sampling made too much of is taken from anonymous memory, where
 * unsampled blocks with mappings of their own lie. */
static void settle(struct join *join, enum pool pool, double *live, double *variance)
{
	const struct tally *tally = &join->tallies[pool];
	double resident = (double)(tally->covered + tally->bare);
	double estimate = tally->estimate;

	if (pool == POOL_NONE || pool == POOL_USER) {
		*live += pool == POOL_NONE ? (double)tally->covered : resident;
		return;
	}
	if (pool == POOL_MAPPED && estimate > resident) {
		struct mematlas_part *anon = &join->collector->parts[join->anon_part];
		double taken = round(least(estimate - resident, (double)anon->resident_bytes));
		anon->resident_bytes -= (uint64_t)taken;
		resident += taken;
	}
	estimate = round(least(estimate, resident));
	*live += estimate;
	*variance += tally->variance;
	uint32_t part = part_index(join, MEMATLAS_PART_SLACK, pool_names[pool]);
	join->collector->parts[part].resident_bytes = (uint64_t)(resident - estimate);
	join->collector->parts[part].error_bytes = sqrt(tally->variance);
}

static uint64_t make_parts(struct join *join)
{
	struct mematlas_collector *collector = join->collector;
	double live = 0, variance = 0;
	uint64_t total = 0;
	uint32_t kept = 0;

	for (enum pool pool = POOL_NONE; pool < POOLS; pool++)
		settle(join, pool, &live, &variance);
	uint32_t part = part_index(join, MEMATLAS_PART_LIVE, "live allocations");
	collector->parts[part].resident_bytes = (uint64_t)live;
	collector->parts[part].error_bytes = sqrt(variance);
	for (uint32_t i = 0; i < collector->part_count; i++) {
		total += collector->parts[i].resident_bytes;
		if (collector->parts[i].resident_bytes || collector->parts[i].error_bytes > 0)
			collector->parts[kept++] = collector->parts[i];
	}
	collector->part_count = kept;
	return total;
}

static double dustless(double value)
{
	return fabs(value) < 1e-3 ? 0 : value;
}

static int make_rows(struct join *join)
{
	const struct sums *sums = &join->process->state.sums;
	struct mematlas_collector *collector = join->collector;
	struct mematlas_held *rows = malloc((sums->count + 1) * sizeof *rows);

	if (!rows)
		return -ENOMEM;
	free(collector->rows);
	collector->rows = rows;
	collector->row_count = 0;
	for (uint32_t i = 0; i < sums->count; i++) {
		const struct sum *sum = &sums->items[i];
		double live = dustless(sum->live), count = dustless(sum->live_count);
		if (live == 0 && count == 0 && sum->resident == 0 && sum->swapped == 0)
			continue;
		rows[collector->row_count++] = (struct mematlas_held){
			sum->node,     sum->kind, live,        count, dustless(sum->live_variance),
			sum->resident, sum->huge, sum->swapped};
	}
	return 0;
}

static void forget_residency(struct sums *sums)
{
	for (uint32_t i = 0; i < sums->count; i++)
		sums->items[i].resident = sums->items[i].huge = sums->items[i].swapped = 0;
}

/* The image is the one we trace as long as it maps its own session file. */
static bool is_same_image(const struct join *join)
{
	for (size_t i = 0; i < join->vmas.count; i++) {
		const char *name = join->vmas.items[i].name;
		const char *base = strrchr(name, '/');
		size_t length = strlen(join->process->name);
		if (base && is_session_file(join, name) &&
		    strncmp(base + 1, join->process->name, length) == 0 &&
		    (base[1 + length] == 0 || base[1 + length] == ' '))
			return true;
	}
	return false;
}

static int look(struct join *join, struct mematlas_account *account)
{
	int proc = join->process->dir;
	int error = vmas_read(proc, &join->vmas);

	if (!error && !is_same_image(join))
		error = -ESRCH;
	if (!error)
		error = runs_read(join->collector, proc, &join->vmas, &join->runs);
	if (error)
		return error;
	int64_t rss = rollup_read(proc), statm = statm_read(proc);
	if (rss < 0)
		return (int)rss;
	account->rss_bytes = (uint64_t)rss;
	account->statm_rss_bytes = statm < 0 ? 0 : (uint64_t)statm;
	collector_beat(join->collector);
	error = spans_of_blocks(&join->process->state.blocks, &join->blocks);
	collector_beat(join->collector);
	return error ? error : spans_of_owners(join->process, &join->owners);
}

static int run_join(struct join *join, struct mematlas_account *account)
{
	struct mematlas_collector *collector = join->collector;
	int error = look(join, account);

	if (error)
		return error;
	collector->part_count = 0;
	join->tracer_part = part_index(join, MEMATLAS_PART_TRACER, "mematlas");
	join->stack_part = part_index(join, MEMATLAS_PART_STACK, "other threads");
	join->anon_part = part_index(join, MEMATLAS_PART_ANON, "unnamed");
	forget_residency(&join->process->state.sums);
	sweep(join);
	uint64_t total = make_parts(join);
	account->unexplained_bytes = (int64_t)account->rss_bytes - (int64_t)total;
	error = make_rows(join);
	if (join->failed)
		error = -ENOMEM;
	account->parts = collector->part_count;
	account->rows = collector->row_count;
	return error;
}

/* Executable mappings no MODULE record told of: loaded behind the hooks' back, as by dlopen in libc. */
static void learn_modules(struct join *join)
{
	for (size_t i = 0; i < join->vmas.count; i++) {
		const struct vma *vma = &join->vmas.items[i];
		struct modules *modules = &join->process->state.modules;
		bool told = false;
		if (vma->permissions[2] != 'x' || !vma->inode || *vma->name != '/')
			continue;
		for (uint32_t m = modules->count; m-- > 0 && !told;)
			told = modules->items[m].start <= vma->start &&
			       vma->end <= modules->items[m].end;
		struct mematlas_module module = {vma->start - vma->file_offset, vma->start,
						 vma->end, "", ""};
		strncpy(module.path, vma->name, sizeof module.path - 1);
		if (!told)
			module_add(&join->process->state, &module);
	}
}

int mematlas_collector_snapshot(struct mematlas_collector *collector, int index,
				struct mematlas_account *account)
{
	if (index < 0 || (uint32_t)index >= collector->count ||
	    !collector->processes[index]->active)
		return -ESRCH;
	struct join join = {.collector = collector, .process = collector->processes[index]};
	double start = collector_seconds();
	*account = (struct mematlas_account){.time_s = start - collector->started};
	collector_drain(collector, false);
	int error = join.process->dir < 0 ? -ESRCH : run_join(&join, account);
	if (!error)
		learn_modules(&join);
	vmas_free(&join.vmas);
	free(join.runs.items);
	free(join.blocks.items);
	free(join.owners.items);
	double end = collector_seconds();
	account->cost_s = end - start;
	double rest =
		collector->settings.budget > 0 ? account->cost_s / collector->settings.budget : 0;
	if (end + rest > join.process->next_join)
		join.process->next_join = end + rest;
	return error;
}
