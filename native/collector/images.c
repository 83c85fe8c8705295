/* The process images that joined a session, by number. What is here is used under the broker's lock. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"

/* NULL: there is none. */
static struct image *find(const struct broker *broker, uint64_t number)
{
	uint32_t low = 0, high = broker->image_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (broker->images[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	bool found = low < broker->image_count && broker->images[low].number == number;
	return found ? &broker->images[low] : NULL;
}

const struct image *broker_image(const struct broker *broker, uint64_t number)
{
	const struct image *image = find(broker, number);

	return image && image->pid ? image : NULL;
}

/* Is it the last that tells that this user belongs to the session? */
static bool tells_user(const struct broker *broker, const struct image *image)
{
	if (image->uid == geteuid())
		return false;
	for (uint32_t i = 0; i < broker->image_count; i++)
		if (&broker->images[i] != image && broker->images[i].uid == image->uid)
			return false;
	return true;
}

void broker_forget(struct broker *broker, uint64_t number)
{
	pthread_mutex_lock(&broker->lock);
	struct image *image = find(broker, number);
	if (image && tells_user(broker, image)) {
		image->pid = 0;
	} else if (image) {
		uint32_t after = (uint32_t)(image - broker->images) + 1;
		memmove(image, image + 1, (broker->image_count - after) * sizeof *image);
		broker->image_count--;
	}
	pthread_mutex_unlock(&broker->lock);
}
