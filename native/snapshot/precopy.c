/* Copies a process while it runs. Write protection tells which pages it writes after they were copied; those are
 * copied again. What remains at the stop is what it wrote in the last round. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "image.h"
#include "userfault.h"

#define MOST_ROUNDS 4
#define STOP_S 1e-3
#define WRITTEN_PAGE_S 2e-6 /* scattered pages cost more than those in a row */
#define SCANNED_PAGE_S 5e-9
#define FEW_PAGES 256u /* copied in less time than a round takes */

/* The memory of a part that cannot be protected is copied during the stop. Where the mapping is gone, nothing is. */
static int copy_in_round(struct mematlas_image *image, const struct part *part, uint64_t *pages)
{
	struct segment *segment = segment_prepare(image, part->start, part->end);

	if (!segment)
		return -ENOMEM;
	if (!userfault_register(image->userfault, part->start, part->end) && !segment->copied)
		return populate_part(image, part, segment);
	segment->copied = true;
	return protect_and_copy(image, part, segment, pages);
}

/* The mappings are read again for each round: what was mapped meanwhile takes part. */
static int copy_round(struct mematlas_image *image, uint64_t *pages)
{
	struct parts *parts = &image->registered;
	int error = image_read_maps(image);

	*pages = 0;
	if (!error)
		error = parts_select(parts, image->maps, NULL, 0);
	segments_begin(image);
	for (size_t i = 0; !error && i < parts->count; i++)
		error = copy_in_round(image, &parts->rows[i], pages);
	return error;
}

/* More rounds help as long as each has fewer pages to copy. */
static int copy_rounds(struct mematlas_image *image)
{
	uint64_t pages, first = 0, before = UINT64_MAX;
	int error = 0;

	while (!error && image->facts.rounds < MOST_ROUNDS) {
		error = copy_round(image, &pages);
		image->facts.rounds++;
		image->estimate_s =
			STOP_S + (double)pages * WRITTEN_PAGE_S + (double)first * SCANNED_PAGE_S;
		first = first ? first : pages;
		if (pages < FEW_PAGES || pages > before / 2)
			break;
		before = pages;
	}
	return error;
}

int precopy_begin(struct mematlas_image *image, double timeout_s)
{
	int fd = userfault_open(image->pid, timeout_s);

	if (fd < 0)
		return fd;
	image->userfault = fd;
	return copy_rounds(image);
}

void precopy_end(struct mematlas_image *image)
{
	if (image->userfault < 0)
		return;
	for (size_t i = 0; i < image->registered.count; i++)
		userfault_release(image->userfault, image->registered.rows[i].start,
				  image->registered.rows[i].end);
	close(image->userfault);
	image->userfault = -1;
}
