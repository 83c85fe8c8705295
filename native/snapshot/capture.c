/* Copies the memory of a process. All of it runs in a thread of its own: the kernel lets go what a thread
 * traces when the thread ends, so that nothing stays stopped whatever failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cleanup.h"
#include "../monotonic.h"
#include "../proc/maps.h"
#include "../proc/page_size.h"
#include "image.h"
#include "pagemap_scan.h"

/* What reading takes on a machine of 2024, rounded up. */
#define STOP_S 1e-3
#define PAGE_S 0.6e-6
#define HUGE_PAGE_S 0.15e-6 /* of a base page in a huge one */
#define SWAPPED_PAGE_S 100e-6

struct work {
	struct mematlas_image *image;
	int way;
	double timeout_s, limit_s;
	int error;
};

static int open_pagemap(int pid)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? (errno == ENOENT ? -ESRCH : -errno) : fd;
}

int image_read_maps(struct mematlas_image *image)
{
	struct mematlas_maps *maps;
	int error = maps_of_process(image->pid, &maps);

	if (error)
		return error == -ENOENT ? -ESRCH : error;
	mematlas_maps_destroy(image->maps);
	image->maps = maps;
	return 0;
}

/* Maps the copy's memory before the stop. What changes until then is mapped during the stop. */
static int prepare(struct mematlas_image *image)
{
	CLEANUP(parts_free) struct parts parts = {0};
	int error = image_read_maps(image);

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

static void keep_range(struct mematlas_image *image, const struct part *part,
		       const struct segment *segment)
{
	struct mematlas_heap_range *range = &image->ranges[image->facts.range_count++];
	uint64_t offset = part->start - segment->start;

	*range = (struct mematlas_heap_range){
		.start = part->start,
		.size = part->end - part->start,
		.bytes = segment->bytes + offset,
		.pages = segment->pages + offset / page_bytes(),
		.kind = part->kind,
		.mapping = part->mapping,
	};
}

/* Copies what there is now. Segments do not move any more once their range is kept. */
static int copy_all(struct mematlas_image *image, const struct mematlas_image_thread *threads,
		    size_t count)
{
	CLEANUP(parts_free) struct parts parts = {0};
	int error = image_read_maps(image);

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
			keep_range(image, part, segment);
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

static int copy_in_stop(struct mematlas_image *image, double timeout_s)
{
	struct stop stop;
	int error = stop_all(&stop, image->pid, timeout_s);

	if (error)
		return error;
	image->facts.first_bytes = image->facts.copied_bytes;
	image->facts.copied_bytes = image->facts.unreadable_pages = 0;
	error = copy_all(image, stop.threads, stop.count);
	if (!error)
		error = keep_threads(image, &stop);
	image->facts.pause_s = stop_release(&stop);
	return error;
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

static int survey_parts(struct mematlas_image *image, struct mematlas_image_survey *ret)
{
	CLEANUP(parts_free) struct parts parts = {0};
	int error = image_read_maps(image);

	if (!error)
		error = parts_select(&parts, image->maps, NULL, 0);
	for (size_t i = 0; !error && i < parts.count; i++)
		error = visit_pages(image, &parts.rows[i], count_run, ret);
	return error;
}

/* The pause is not to wait for other programs. Real-time scheduling is for the pause alone. */
static void hurry(bool now)
{
	const struct sched_param parameters = {.sched_priority = now ? 1 : 0};

	sched_setscheduler(0, now ? SCHED_FIFO : SCHED_OTHER, &parameters);
}

static int estimate_of_survey(struct mematlas_image *image)
{
	struct mematlas_image_survey survey = {0};
	const double page = (double)page_bytes();
	int error = survey_parts(image, &survey);

	image->estimate_s = STOP_S + (double)survey.small_bytes / page * PAGE_S +
			    (double)survey.huge_bytes / page * HUGE_PAGE_S +
			    (double)survey.swapped_bytes / page * SWAPPED_PAGE_S;
	return error;
}

static int capture_by(const struct work *work)
{
	struct mematlas_image *image = work->image;

	if (work->way == MEMATLAS_IMAGE_NO_STOP)
		return copy_all(image, NULL, 0);
	bool copy_first = work->way == MEMATLAS_IMAGE_COPY_FIRST;
	int error = copy_first ? precopy_begin(image, work->timeout_s) : estimate_of_survey(image);
	if (!error && work->limit_s > 0 && image->estimate_s > work->limit_s)
		error = -EOVERFLOW;
	if (!error && !copy_first)
		error = prepare(image);
	hurry(true);
	if (!error)
		error = copy_in_stop(image, work->timeout_s);
	precopy_end(image); /* holds locks that the process's page faults wait for */
	hurry(false);
	return error;
}

static void *run(void *argument)
{
	struct work *work = argument;

	work->error = capture_by(work);
	return NULL;
}

static int run_in_thread(struct work *work)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run, work);

	if (error)
		return -error;
	pthread_join(thread, NULL);
	/* Not before: a thread in uninterruptible sleep may have stopped since, and goes on now. */
	segments_drop_unused(work->image);
	for (size_t i = 0; i < work->image->segment_count; i++)
		forget_unseen(&work->image->segments[i]);
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
	image->userfault = -1;
	image->pagemap = open_pagemap(pid);
	if (image->pagemap < 0) {
		int error = image->pagemap;
		free(image);
		return error;
	}
	*ret = image;
	return 0;
}

int mematlas_image_capture(int pid, int way, double timeout_s, double limit_s, double *estimate_s,
			   struct mematlas_image **ret)
{
	struct mematlas_image *image;

	*ret = NULL;
	*estimate_s = 0;
#ifndef __x86_64__
	/* Registers cannot be read: the process is not stopped for nothing. */
	if (way != MEMATLAS_IMAGE_NO_STOP)
		return -ENOSYS;
#endif
	int error = open_image(pid, &image);
	if (error)
		return error;
	double began_s = clock_monotonic_s();
	error = run_in_thread(&(struct work){
		.image = image, .way = way, .timeout_s = timeout_s, .limit_s = limit_s});
	image->facts.copied_s = clock_monotonic_s() - began_s;
	*estimate_s = image->estimate_s;
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
	parts_free(&image->registered);
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

int mematlas_image_survey(int pid, struct mematlas_image_survey *ret)
{
	struct mematlas_image *image;
	int error = open_image(pid, &image);

	*ret = (struct mematlas_image_survey){0};
	if (error)
		return error;
	error = survey_parts(image, ret);
	ret->threads = stop_count_threads(pid);
	mematlas_image_destroy(image);
	return error;
}
