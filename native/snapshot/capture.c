/* Copies the memory of a process. All of it runs in a thread of its own: the kernel lets go what a thread
 * traces when the thread ends, so that nothing stays stopped whatever failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "../cleanup.h"
#include "image.h"
#include "pagemap_scan.h"

struct work {
	struct mematlas_image *image;
	int way;
	double timeout_s;
	int error;
};

static int open_of(int pid, const char *name)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? (errno == ENOENT ? -ESRCH : -errno) : fd;
}

static int read_maps(struct mematlas_image *image)
{
	CLEANUP_CLOSE int fd = open_of(image->pid, "maps");

	if (fd < 0)
		return fd;
	mematlas_maps_destroy(image->maps);
	image->maps = NULL;
	return mematlas_maps_create(fd, &image->maps);
}

/* Maps the copy's memory before the stop. What changes until then is mapped during the stop. */
static int prepare(struct mematlas_image *image)
{
	CLEANUP(parts_free) struct parts parts = {0};
	int error = read_maps(image);

	if (!error)
		error = parts_select(&parts, image->maps, NULL, 0);
	segments_begin(image);
	for (size_t i = 0; !error && i < parts.count; i++) {
		const struct part *part = &parts.rows[i];
		struct segment *segment = segment_prepare(image, part->start, part->end);
		error = segment ? populate_part(image, part, segment) : -ENOMEM;
	}
	return error;
}

static int keep_range(struct mematlas_image *image, const struct part *part,
		      const struct segment *segment)
{
	struct mematlas_heap_range *range = &image->ranges[image->facts.range_count++];
	uint64_t offset = part->start - segment->start;

	*range = (struct mematlas_heap_range){
		.start = part->start,
		.size = part->end - part->start,
		.bytes = segment->bytes + offset,
		.pages = segment->pages + offset / (uint64_t)sysconf(_SC_PAGESIZE),
		.kind = part->kind,
		.mapping = part->mapping,
	};
	return 0;
}

/* Copies what there is now. Segments do not move any more once their range is kept. */
static int copy_all(struct mematlas_image *image, const struct mematlas_image_thread *threads,
		    size_t count)
{
	CLEANUP(parts_free) struct parts parts = {0};
	int error = read_maps(image);

	if (!error)
		error = parts_select(&parts, image->maps, threads, count);
	if (error)
		return error;
	image->ranges = calloc(parts.count + 1, sizeof *image->ranges);
	if (!image->ranges)
		return -ENOMEM;
	segments_begin(image);
	for (size_t i = 0; !error && i < parts.count; i++) {
		const struct part *part = &parts.rows[i];
		struct segment *segment = segment_prepare(image, part->start, part->end);
		error = segment ? copy_part(image, part, segment) : -ENOMEM;
		if (!error)
			error = keep_range(image, part, segment);
	}
	return error;
}

static int keep_threads(struct mematlas_image *image, const struct stop *stop)
{
	image->threads = calloc(stop->count + 1, sizeof *image->threads);
	if (!image->threads)
		return -ENOMEM;
	for (uint32_t i = 0; i < stop->count; i++) {
		image->threads[i] = stop->threads[i];
		image->facts.group_stopped |= stop->threads[i].group_stopped;
	}
	image->facts.thread_count = stop->count;
	return 0;
}

static int capture_stopped(struct mematlas_image *image, double timeout_s)
{
	struct stop stop;
	int error = prepare(image);

	if (!error)
		error = stop_all(&stop, image->pid, timeout_s);
	if (error)
		return error;
	error = copy_all(image, stop.threads, stop.count);
	if (!error)
		error = keep_threads(image, &stop);
	image->facts.pause_s = stop_release(&stop);
	return error;
}

static void *run(void *argument)
{
	struct work *work = argument;
	struct mematlas_image *image = work->image;

	/* Of this thread alone. The pause should not wait for other programs. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20);
	work->error = work->way == MEMATLAS_IMAGE_STOP ? capture_stopped(image, work->timeout_s)
						       : copy_all(image, NULL, 0);
	segments_drop_unused(image);
	return NULL;
}

static int run_in_thread(struct work *work)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run, work);

	if (error)
		return -error;
	pthread_join(thread, NULL);
	return work->error;
}

static int open_image(int pid, struct mematlas_image **ret)
{
	struct mematlas_image *image = calloc(1, sizeof *image);

	*ret = NULL;
	if (!image)
		return -ENOMEM;
	image->pid = pid;
	image->knows_guards = true;
	image->pagemap = open_of(pid, "pagemap");
	if (image->pagemap < 0) {
		int error = image->pagemap;
		free(image);
		return error;
	}
	*ret = image;
	return 0;
}

int mematlas_image_capture(int pid, int way, double timeout_s, struct mematlas_image **ret)
{
	struct mematlas_image *image;
	int error = open_image(pid, &image);

	*ret = NULL;
	if (error)
		return error;
	double began_s = stop_now_s();
	error = run_in_thread(&(struct work){.image = image, .way = way, .timeout_s = timeout_s});
	image->facts.copied_s = stop_now_s() - began_s;
	if (error) {
		mematlas_image_destroy(image);
		return error;
	}
	*ret = image;
	return 0;
}

void mematlas_image_destroy(struct mematlas_image *image)
{
	if (!image)
		return;
	segments_free(image);
	mematlas_maps_destroy(image->maps);
	free(image->ranges);
	free(image->threads);
	close(image->pagemap);
	free(image);
}

void mematlas_image_facts(const struct mematlas_image *image, struct mematlas_image_facts *ret)
{
	*ret = image->facts;
}

const struct mematlas_maps *mematlas_image_maps(const struct mematlas_image *image)
{
	return image->maps;
}

const struct mematlas_heap_range *mematlas_image_ranges(const struct mematlas_image *image)
{
	return image->ranges;
}

const struct mematlas_image_thread *mematlas_image_threads(const struct mematlas_image *image)
{
	return image->threads;
}

static int count_run(void *to, const struct mematlas_page_run *run)
{
	struct mematlas_image_survey *survey = to;
	uint64_t size = run->end - run->start;

	if (!(run->categories & PAGEMAP_IS_PRESENT))
		survey->swapped_bytes += size;
	else if (run->categories & PAGEMAP_IS_HUGE)
		survey->huge_bytes += size;
	else
		survey->small_bytes += size;
	return 0;
}

int mematlas_image_survey(int pid, struct mematlas_image_survey *ret)
{
	CLEANUP(parts_free) struct parts parts = {0};
	struct mematlas_image *image;
	int error = open_image(pid, &image);

	*ret = (struct mematlas_image_survey){0};
	if (error)
		return error;
	error = read_maps(image);
	if (!error)
		error = parts_select(&parts, image->maps, NULL, 0);
	for (size_t i = 0; !error && i < parts.count; i++)
		error = visit_pages(image, &parts.rows[i], count_run, ret);
	ret->threads = stop_count_threads(pid);
	mematlas_image_destroy(image);
	return error;
}
