/* Damages the image of a heap in many ways and reads it: no pass may crash, hang or leave the image.
 * fuzz_heap PROGRAM_THAT_SAVES_AN_IMAGE [ROUNDS [SEED [ALLOCATOR_TO_PRELOAD]]] */
#include <errno.h>
#include <spawn.h>

#include "../heap/heap.h"
#include "capture.h"
#include "random.h"

#define MOST_CHANGES 64
#define SECONDS 60 /* for one round, on a busy machine */

static uint64_t state = 88172645463325252ULL;
static struct capture whole;

static uint64_t rnd(uint64_t below)
{
	return random_next(&state) % below;
}

static void save_image(const char *program, const char *path, const char *allocator)
{
	char *const arguments[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)path, NULL};
	char preload[256];
	char *const environment[] = {allocator ? preload : NULL, NULL};
	pid_t pid;
	int status;

	snprintf(preload, sizeof preload, "LD_PRELOAD=%s", allocator ? allocator : "");
	CHECK(posix_spawn(&pid, program, NULL, NULL, arguments, environment) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

struct change {
	uint64_t *at;
	uint64_t before;
};

static uint64_t *random_word(const struct capture *image)
{
	const struct mematlas_heap_range *range = &image->ranges[rnd(image->count)];

	return (uint64_t *)(uintptr_t)range->bytes + rnd(range->size / 8);
}

/* Words that damage most: near the old value, a pointer, a header, a huge size. */
static uint64_t damage(const struct capture *image, uint64_t before)
{
	const struct mematlas_heap_range *range = &image->ranges[rnd(image->count)];

	switch (rnd(8)) {
	case 0:
		return before ^ 1ULL << rnd(64);
	case 1:
		return before + 16 * rnd(64);
	case 2:
		return range->start + (rnd(range->size) & ~15ULL);
	case 3:
		return UINT64_MAX - rnd(32);
	case 4:
		return rnd(4096) | 1;
	case 5:
		return 0;
	case 6:
		return *random_word(image);
	default:
		return state;
	}
}

/* A word that is not 0, or that of an arena: most of the memory is text of blocks. */
static uint64_t *victim(const struct capture *image)
{
	uint64_t *word = random_word(image);

	for (int i = 0; i < 100 && !*word; i++)
		word = random_word(image);
	return word;
}

static uint32_t change_words(const struct capture *image, struct change *changes)
{
	uint32_t count = 1 + (uint32_t)rnd(MOST_CHANGES);

	for (uint32_t i = 0; i < count; i++) {
		changes[i].at = victim(image);
		changes[i].before = *changes[i].at;
		*changes[i].at = damage(image, changes[i].before);
	}
	return count;
}

/* Ranges that were cut or left out, as of a core file that ends early. */
static void cut(struct capture *image)
{
	image->count = 0;
	for (uint64_t i = 0; i < whole.count; i++) {
		struct mematlas_heap_range range = whole.ranges[i];

		if (!rnd(20))
			continue;
		if (!rnd(10))
			range.size = 8 + rnd(range.size);
		image->ranges[image->count++] = range;
	}
}

static uint32_t list_roots(const struct capture *image, struct mematlas_heap_root *roots,
			   uint32_t *parents, uint8_t *ranks)
{
	static const uint8_t order[] = {MEMATLAS_HEAP_STRONG, MEMATLAS_HEAP_WEAK};
	uint32_t count = 0;

	for (int weak = 0; weak < 2; weak++)
		for (uint64_t i = 0; i < image->count; i++) {
			const struct mematlas_heap_range *range = &image->ranges[i];

			if ((range->kind == MEMATLAS_HEAP_ANONYMOUS) != weak)
				continue;
			parents[count] = 0;
			ranks[count] = order[weak];
			roots[count] =
				(struct mematlas_heap_root){.start = range->start,
							    .end = range->start + range->size,
							    .group = count + 1};
			count++;
		}
	return count;
}

static void check_blocks(struct mematlas_heap *heap, int64_t count)
{
	const uint64_t *address = mematlas_heap_column(heap, MEMATLAS_HEAP_ADDRESS);
	const uint64_t *size = mematlas_heap_column(heap, MEMATLAS_HEAP_SIZE);
	const uint64_t *retained = mematlas_heap_node_column(heap, MEMATLAS_HEAP_RETAINED);
	uint64_t sum = 0;

	for (int64_t i = 0; i < count; i++) {
		sum += size[i];
		CHECK(i + 1 == count || address[i] + size[i] <= address[i + 1]);
	}
	CHECK(retained[0] == sum);
}

/* Types retain no more than all memory does. */
static void check_sums(const struct mematlas_heap *heap)
{
	const struct mematlas_heap_type *types;
	uint32_t count = (uint32_t)mematlas_heap_types(heap, &types);
	uint64_t *sums = calloc(count + 1, 16);
	struct mematlas_heap_graph graph;

	mematlas_heap_graph(heap, &graph);
	uint32_t *group = malloc(graph.nodes * sizeof *group);
	const uint32_t *type = mematlas_heap_column(heap, MEMATLAS_HEAP_TYPE);
	const uint64_t *retained = mematlas_heap_node_column(heap, MEMATLAS_HEAP_RETAINED);
	for (uint64_t node = 0; node < graph.nodes; node++) {
		uint64_t block = node - graph.strong - 1;
		group[node] = block < graph.blocks ? type[block] : MEMATLAS_HEAP_NONE;
	}
	struct mematlas_heap_tree nodes = {
		graph.nodes, mematlas_heap_node_column(heap, MEMATLAS_HEAP_DOMINATOR), group,
		retained, mematlas_heap_node_column(heap, MEMATLAS_HEAP_RETAINED_RESIDENT)};
	CHECK(mematlas_heap_sum_groups(&nodes, count, sums, sums + count) == 0);
	for (uint32_t i = 0; i < count; i++)
		CHECK(sums[i] <= retained[0]);
	free(group);
	free(sums);
}

static int64_t read_all(const struct capture *image)
{
	static struct mematlas_heap_root roots[MOST_RANGES];
	static uint32_t parents[MOST_RANGES];
	static uint8_t ranks[MOST_RANGES];
	struct mematlas_heap_pymalloc pymalloc;
	struct mematlas_heap_python python;
	struct mematlas_heap_allocator other;
	struct mematlas_heap_glibc sum;
	struct mematlas_heap *heap;
	uint32_t groups = list_roots(image, roots, parents, ranks);
	int64_t count;

	CHECK(mematlas_heap_create(image->ranges, image->count, 4096, &heap) == 0);
	CHECK(mematlas_heap_read_glibc(heap, &sum) == 0);
	CHECK(mematlas_heap_read_jemalloc(heap, &other) == 0);
	CHECK(mematlas_heap_read_mimalloc(heap, &other) == 0);
	CHECK(mematlas_heap_read_tcmalloc(heap, &other) == 0);
	CHECK(mematlas_heap_pymalloc(heap, &pymalloc) >= 0);
	count = mematlas_heap_index(heap);
	CHECK(count >= 0);
	CHECK(mematlas_heap_python(heap, &python) >= 0);
	CHECK(mematlas_heap_type_by_content(heap) >= 0);
	CHECK(mematlas_heap_link(heap, roots, groups, parents, ranks, groups) >= 0);
	CHECK(mematlas_heap_dominate(heap) == 0 && mematlas_heap_find_paths(heap) == 0);
	check_blocks(heap, count);
	check_sums(heap);
	mematlas_heap_destroy(heap);
	return count;
}

static void load_image(const char *program, const char *allocator)
{
	char path[] = "/tmp/mematlas-heap-XXXXXX";
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	save_image(program, path, allocator);
	capture_load(&whole, path);
	unlink(path);
	close(fd);
}

static int64_t damage_and_read(int round)
{
	static struct capture image;
	struct change changes[MOST_CHANGES];
	uint32_t changed;
	int64_t found;

	alarm(SECONDS);
	image = whole;
	if (round % 4 == 3)
		cut(&image);
	changed = image.count ? change_words(&image, changes) : 0;
	found = read_all(&image);
	while (changed--)
		*changes[changed].at = changes[changed].before;
	return found;
}

int main(int count, char **arguments)
{
	const char *allocator = count > 4 ? arguments[4] : NULL;
	int rounds = count > 2 ? atoi(arguments[2]) : 25;
	int64_t fewest, most;

	CHECK(count > 1);
	if (allocator && access(allocator, R_OK)) {
		printf("skipped: %s is not installed\n", allocator);
		return 77;
	}
	load_image(arguments[1], allocator);
	state += count > 3 ? strtoull(arguments[3], NULL, 0) : 0;
	fewest = most = read_all(&whole);
	CHECK(most > 1000);
	for (int round = 0; round < rounds; round++) {
		int64_t found = damage_and_read(round);

		fewest = found < fewest ? found : fewest;
		most = found > most ? found : most;
	}
	printf("%d rounds: %ld to %ld blocks\n", rounds, fewest, most);
	for (uint64_t i = 0; i < whole.count; i++)
		free((void *)(uintptr_t)whole.ranges[i].bytes);
	return 0;
}
