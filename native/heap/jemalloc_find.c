/* The radix tree of jemalloc and its size classes. */
#include <string.h>

#include "jemalloc.h"

#define BIN_STRIDE 40U /* struct bin_info_s */
#define LEAST_BINS 20U
#define GROUP 4U /* size classes to a power of two */
#define LARGEST (7ULL << 60)

static const struct jemalloc_layout layouts[] = {
	{.state_shift = 17, .state_bits = 3, .class_shift = 20, .free_shift = 28}, /* 5.3 */
	{.state_shift = 16, .state_bits = 2, .class_shift = 18, .free_shift = 26}, /* 5.1, 5.2 */
	{.state_shift = 15, .state_bits = 2, .class_shift = 17, .free_shift = 25}, /* 5.0 */
};

static uint64_t word_at(const struct jemalloc *jemalloc, uint64_t address)
{
	uint64_t word = 0;

	heap_word(&jemalloc->heap->image, address, &word);
	return word;
}

uint64_t jemalloc_edata(uint64_t entry)
{
	return (uint64_t)((int64_t)(entry << 16) >> 16) & ~(JEMALLOC_ALIGN - 1);
}

/* An extent tells its address, and so where it is listed. */
static uint64_t place_of_leaf(const struct heap_image *image, uint64_t word, uint64_t number)
{
	uint64_t address;

	if (!heap_word(image, jemalloc_edata(word) + 8, &address))
		return HEAP_NO_LEAF;
	if (((address >> 12) & (JEMALLOC_NODE - 1)) == number && address >> 48 == 0)
		return address >> 30;
	return HEAP_LOOK_ON;
}

const struct heap_radix_kind jemalloc_tree = {
	.root_words = JEMALLOC_NODE,
	.leaf_words = JEMALLOC_NODE,
	.alignment = 64,
	.page_shift = 12,
	.probes = 64,
	.origin = MEMATLAS_HEAP_JEMALLOC,
	.place = place_of_leaf,
};

/* reg_size, slab_size, nregs and n_shards, bits and words of the bitmap: false where they disagree. */
static bool read_bin(const uint8_t *at, struct jemalloc_bin *ret)
{
	uint64_t words[5];

	memcpy(words, at, sizeof words);
	*ret = (struct jemalloc_bin){
		.size = words[0], .slab = words[1], .regions = (uint32_t)words[2]};
	return ret->size && ret->size % 8 == 0 && ret->slab && ret->slab % JEMALLOC_PAGE == 0 &&
	       ret->slab <= 1ULL << 24 && ret->regions &&
	       ret->regions <= JEMALLOC_BITMAP_WORDS * 64 &&
	       ret->regions == ret->slab / ret->size && words[3] == ret->regions &&
	       words[4] == (ret->regions + 63) / 64;
}

static uint32_t read_bins(const struct mematlas_heap_range *range, uint64_t offset,
			  struct jemalloc_bin *bins)
{
	uint32_t count = 0;

	while (count < JEMALLOC_MOST_BINS && range->size >= BIN_STRIDE &&
	       offset <= range->size - BIN_STRIDE &&
	       read_bin(range->bytes + offset, &bins[count]) &&
	       (!count || bins[count].size > bins[count - 1].size)) {
		count++;
		offset += BIN_STRIDE;
	}
	return count;
}

/* Of several tables, that which is nearest to the root is the copy's own. */
static void find_bins(struct jemalloc *jemalloc)
{
	const struct heap_image *image = &jemalloc->heap->image;
	struct jemalloc_bin bins[JEMALLOC_MOST_BINS];
	uint64_t nearest = UINT64_MAX;

	for (size_t i = 0; i < image->count; i++) {
		const struct mematlas_heap_range *range = &image->ranges[i];

		/* Before 5.2 the table is a constant. */
		if (range->kind != MEMATLAS_HEAP_DATA && range->kind != MEMATLAS_HEAP_CODE)
			continue;
		for (uint64_t at = 0; at + 8 <= range->size; at += 8) {
			uint64_t address = range->start + at, first, far;

			memcpy(&first, range->bytes + at, sizeof first);
			far = address > jemalloc->tree.root ? address - jemalloc->tree.root
							    : jemalloc->tree.root - address;
			if (first != 8 || far >= nearest)
				continue;
			uint32_t count = read_bins(range, at, bins);

			if (count < LEAST_BINS)
				continue;
			nearest = far;
			jemalloc->bin_count = count;
			memcpy(jemalloc->bins, bins, sizeof bins);
		}
	}
}

/* Classes behind those of the bins: four to each power of two. */
static void list_classes(struct jemalloc *jemalloc)
{
	uint32_t count = jemalloc->bin_count;
	uint64_t size = jemalloc->bins[count - 1].size;

	for (uint32_t i = 0; i < count; i++)
		jemalloc->classes[i] = jemalloc->bins[i].size;
	while (size < LARGEST && count < JEMALLOC_MOST_CLASSES) {
		size += (1ULL << (63 - __builtin_clzll(size))) / GROUP;
		jemalloc->classes[count++] = size;
	}
	jemalloc->class_count = count;
}

struct agreement {
	uint64_t yes, no;
	bool shifted; /* a large block begins behind the start of its extent */
};

/* A slab's count agrees with its bitmap; another extent is as large as its class. A class behind the last
 * marks unused extents. */
static void judge(const struct jemalloc *jemalloc, const struct jemalloc_extent *extent,
		  struct agreement *found)
{
	bool agrees;

	if (extent->size_class == jemalloc->class_count ||
	    (extent->size_class < jemalloc->class_count && !extent->active))
		return;
	if (extent->size_class > jemalloc->class_count)
		agrees = false;
	else if (extent->slab)
		agrees = jemalloc_regions_in_use(jemalloc, extent) >= 0;
	else
		agrees = jemalloc_large_size(jemalloc, extent, 0) ||
			 jemalloc_large_size(jemalloc, extent, JEMALLOC_PAGE);
	found->yes += agrees;
	found->no += !agrees;
	found->shifted |= agrees && !extent->slab && extent->address % JEMALLOC_PAGE;
}

static struct agreement try_layout(struct jemalloc *jemalloc, const struct jemalloc_layout *layout)
{
	struct agreement found = {0};
	struct jemalloc_extent extent;

	jemalloc->layout = layout;
	for (uint32_t i = 0; i < jemalloc->tree.leaf_count; i++)
		for (uint64_t entry = 0; entry < JEMALLOC_NODE; entry++) {
			uint64_t bits =
				word_at(jemalloc, jemalloc->tree.leaves[i].address + entry * 8);

			if (!bits)
				continue;
			if (jemalloc_extent_at(jemalloc, layout, jemalloc_edata(bits), &extent) &&
			    extent.start == jemalloc->tree.leaves[i].describes + (entry << 12))
				judge(jemalloc, &extent, &found);
		}
	return found;
}

bool jemalloc_recognise(struct jemalloc *jemalloc)
{
	const struct jemalloc_layout *best = NULL;
	uint64_t most = 0;

	jemalloc->bin_count = 0;
	find_bins(jemalloc);
	if (!jemalloc->bin_count)
		return false;
	list_classes(jemalloc);
	for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
		struct agreement found = try_layout(jemalloc, &layouts[i]);

		/* Single slabs may be damaged. */
		if (found.yes > most && found.no <= found.yes / 8) {
			most = found.yes;
			best = &layouts[i];
			jemalloc->pad = found.shifted ? JEMALLOC_PAGE : 0;
		}
	}
	jemalloc->layout = best;
	return best != NULL;
}
