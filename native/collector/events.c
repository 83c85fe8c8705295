/* The queue of events that mematlas_collector_poll() returns one by one. */
#include "collector.h"

#define QUEUE_SIZE                                                                                 \
	((uint32_t)(sizeof((struct mematlas_collector *)0)->queue / sizeof(struct mematlas_event)))

bool event_push(struct mematlas_collector *collector, int type, int process)
{
	if (collector->queued == QUEUE_SIZE)
		return false;
	collector->queue[(collector->queue_at + collector->queued++) % QUEUE_SIZE] =
		(struct mematlas_event){type, process};
	return true;
}

bool event_pop(struct mematlas_collector *collector, struct mematlas_event *event)
{
	if (!collector->queued)
		return false;
	*event = collector->queue[collector->queue_at];
	collector->queue_at = (collector->queue_at + 1) % QUEUE_SIZE;
	collector->queued--;
	return true;
}
