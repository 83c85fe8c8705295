/* Which resident pages other processes map, too, and this process's part of them, as in PSS.
 *
 * smaps tells the shared bytes and the PSS of each mapping to everybody, and pagemap tells which
 * pages no other process maps. How many map a page is known from the sums of its mapping, because
 * the number of each page (kpagecount) is for CAP_SYS_ADMIN only. In a mapping whose pages are
 * shared by different numbers of processes, the part of a page is their mean. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../array.h"
#include "sharing.h"

#define BATCH 4096u
#define PSS_ERROR 512 /* the kernel cuts to whole kB, and half of one is added */
#define MIXED 0.02 /* part of a mapping that others may share than its number tells */
#define MAPPED_ONCE (1ULL << 56) /* of a pagemap entry: no other process maps the page */

/* Where a line of smaps is added. Of huge pages only the total is asked for. */
struct smaps_field {
	const char *name;
	size_t at;
};

#define FIELD(name, field) {name, offsetof(struct vma_sharing, field)}
static const struct smaps_field fields[] = {
	FIELD("Rss:", rss),
	FIELD("Pss:", pss),
	FIELD("Shared_Clean:", shared),
	FIELD("Shared_Dirty:", shared),
	FIELD("AnonHugePages:", huge),
	FIELD("ShmemPmdMapped:", huge),
	FIELD("FilePmdMapped:", huge), /* added in Linux 5.4 */
};

static void add_field(struct vma_sharing *vma, const char *line)
{
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		size_t length = strlen(fields[i].name);
		if (strncmp(line, fields[i].name, length) == 0) {
			*(uint64_t *)((char *)vma + fields[i].at) +=
				strtoull(line + length, NULL, 10) * 1024;
			return;
		}
	}
}

/* `part` is right to PSS_ERROR bytes, so of a few pages many numbers come in question. A mapping whose pages are shared
 * by different numbers has a mean, which need not be whole. */
static uint32_t processes_of(double shared, double part)
{
	if (part <= PSS_ERROR)
		return 0;
	double least = ceil(shared / (part + PSS_ERROR) * (1 - MIXED)),
	       most = floor(shared / (part - PSS_ERROR) * (1 + MIXED));
	return least == most && least >= 2 && least < 1e9 ? (uint32_t)least : 0;
}

/* The bytes of a mapping's pages that no other process maps. */
static uint64_t once_mapped(const struct vma_sharing *vma)
{
	return vma->rss > vma->shared ? vma->rss - vma->shared : 0;
}

/* The kernel cuts the PSS of each mapping to whole kB, which only shared pages make it lose. */
static void round_pss(struct vma_sharing *vma)
{
	uint64_t once = once_mapped(vma);

	if (vma->shared)
		vma->pss += PSS_ERROR;
	if (vma->pss < once)
		vma->pss = once;
	if (vma->pss > vma->rss)
		vma->pss = vma->rss;
	vma->share = vma->shared ? (float)(vma->pss - once) / (float)vma->shared : 1;
	vma->processes = processes_of((double)vma->shared, (double)(vma->pss - once));
}

static int parse(char *text, struct sharing *sharing)
{
	while (*text) {
		char *end = strchrnul(text, '\n'), *at = text;
		uint64_t start = strtoull(text, &at, 16);
		if (*at == '-' && at > text) {
			if (!ARRAY_RESERVE(sharing->items, sharing->count, sharing->capacity, 512))
				return -ENOMEM;
			sharing->items[sharing->count++] = (struct vma_sharing){
				.start = start, .end = strtoull(at + 1, NULL, 16)};
		} else if (sharing->count) {
			add_field(&sharing->items[sharing->count - 1], text);
		}
		text = *end ? end + 1 : end;
	}
	for (size_t i = 0; i < sharing->count; i++)
		round_pss(&sharing->items[i]);
	return sharing->count ? 0 : -ESRCH;
}

int sharing_read(int proc, struct sharing *sharing)
{
	CLEANUP_FREE char *text = NULL;
	int error = proc_read(proc, "smaps", &text);

	*sharing = (struct sharing){0};
	if (!error)
		error = parse(text, sharing);
	if (error)
		sharing_free(sharing);
	return error;
}

void sharing_free(struct sharing *sharing)
{
	free(sharing->items);
	*sharing = (struct sharing){0};
}

/* The runs as they become, divided where sharing changes. */
struct split {
	struct runs runs;
	uint64_t entries[BATCH];
	int pagemap;
};

static bool continues(const struct run *last, const struct run *run)
{
	return last->end == run->start && last->state == run->state && last->share == run->share &&
	       last->processes == run->processes;
}

static int add_piece(struct split *split, struct run run, struct vma_sharing *vma, bool shared)
{
	struct runs *runs = &split->runs;
	struct run *last = runs->count ? &runs->items[runs->count - 1] : NULL;

	if (shared)
		vma->pages_shared += run.end - run.start;

	run.share = shared ? vma->share : 1;
	run.processes = shared ? vma->processes : 1;
	run.state |= shared ? PAGES_SHARED : 0;
	if (last && continues(last, &run)) {
		last->end = run.end;
		return 0;
	}
	if (!ARRAY_RESERVE(runs->items, runs->count, runs->capacity, 4096))
		return -ENOMEM;
	runs->items[runs->count++] = run;
	return 0;
}

/* A run in a mapping that has pages of both sorts. Pages that are gone meanwhile count as not shared. */
static int split_pages(struct split *split, struct run run, struct vma_sharing *vma)
{
	const uint64_t page = page_bytes();
	int error = 0;

	while (!error && run.start < run.end) {
		uint64_t wanted = (run.end - run.start) / page, start = run.start;
		size_t bytes = (wanted < BATCH ? wanted : BATCH) * sizeof *split->entries;
		ssize_t got =
			pread(split->pagemap, split->entries, bytes, (off_t)(run.start / page * 8));
		if (got < 8)
			return got < 0 ? -errno : -ESRCH;
		for (ssize_t i = 0; !error && i < got / 8; i++, start += page) {
			uint64_t entry = split->entries[i];
			struct run piece = {start, start + page, run.state, 1, 1};
			error = add_piece(split, piece, vma, entry >> 63 && !(entry & MAPPED_ONCE));
		}
		run.start = start;
	}
	return error;
}

static int split_run(struct split *split, struct run run, struct vma_sharing *vma)
{
	if (!(run.state & PAGES_RESIDENT) || !vma->shared)
		return add_piece(split, run, vma, false);
	if (vma->shared >= vma->rss)
		return add_piece(split, run, vma, true);
	return split_pages(split, run, vma);
}

/* The mapping at `address`, and where it ends, or the next one begins. Mappings that smaps does not show
 * were unmapped meanwhile, or are new: `unknown`. *at only moves up. */
static struct vma_sharing *find_vma(struct sharing *sharing, struct vma_sharing *unknown,
				    uint64_t address, size_t *at, uint64_t *end)
{
	while (*at < sharing->count && sharing->items[*at].end <= address)
		(*at)++;
	if (*at == sharing->count)
		return unknown;
	struct vma_sharing *vma = &sharing->items[*at];
	uint64_t until = vma->start > address ? vma->start : vma->end;
	if (until < *end)
		*end = until;
	return vma->start > address ? unknown : vma;
}

static int split_all(struct split *split, struct sharing *sharing, const struct runs *runs)
{
	struct vma_sharing unknown = {.share = 1};
	size_t at = 0;
	int error = 0;

	for (size_t i = 0; !error && i < runs->count; i++) {
		struct run rest = runs->items[i];
		while (!error && rest.start < rest.end) {
			struct run piece = rest;
			struct vma_sharing *vma =
				find_vma(sharing, &unknown, rest.start, &at, &piece.end);
			error = split_run(split, piece, vma);
			rest.start = piece.end;
		}
	}
	return error;
}

int sharing_split(int proc, struct sharing *sharing, struct runs *runs)
{
	CLEANUP_CLOSE int pagemap = openat(proc, "pagemap", O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE struct split *split = malloc(sizeof *split);

	if (!split)
		return -ENOMEM;
	split->runs = (struct runs){.has_zero_pages = runs->has_zero_pages};
	sharing->has_zero_pages = runs->has_zero_pages;
	split->pagemap = pagemap;
	int error = pagemap < 0 ? -ENOENT : split_all(split, sharing, runs);
	if (error) {
		free(split->runs.items);
		return error;
	}
	free(runs->items);
	*runs = split->runs;
	return 0;
}

/* A library's page is shared or not from one read to the next, as other processes come and go. The sums take the
 * pages as the parts take them, so PSS less its parts is RSS less its parts. */
static uint64_t sum_by_pages(const struct vma_sharing *vma, float share)
{
	double others = (double)vma->pages_shared * (1 - (double)share);

	return others < (double)vma->rss ? vma->rss - (uint64_t)(others + 0.5) : 0;
}

void sharing_sum(const struct sharing *sharing, struct mematlas_account *account)
{
	account->rss_bytes = account->pss_bytes = account->uss_bytes = account->huge_bytes = 0;
	for (size_t i = 0; i < sharing->count; i++) {
		const struct vma_sharing *vma = &sharing->items[i];
		account->rss_bytes += vma->rss;
		account->pss_bytes +=
			sharing->has_zero_pages ? vma->pss : sum_by_pages(vma, vma->share);
		account->uss_bytes +=
			sharing->has_zero_pages ? once_mapped(vma) : sum_by_pages(vma, 0);
		account->huge_bytes += vma->huge;
	}
}

int64_t mematlas_collector_sharing(struct mematlas_collector *collector, int index,
				   struct mematlas_sharing *rows, uint64_t capacity)
{
	struct process *process = process_active_at(collector, index);
	if (!process)
		return -ESRCH;
	const struct stack_stats_table *table = &process->state.stats;
	uint64_t count = 0;
	for (uint32_t i = 0; i < table->count && count < capacity; i++) {
		const struct stack_stats *stats = &table->items[i];
		if (stats->shared > 0)
			rows[count++] = (struct mematlas_sharing){stats->node, stats->kind,
								  stats->shared, stats->share};
	}
	return (int64_t)count;
}
