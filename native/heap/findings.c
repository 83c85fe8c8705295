#include "heap.h"

#include <stdlib.h>

#define KEPT 1000

void heap_finding(struct heap *heap, int kind, uint64_t address, uint64_t detail, uint32_t number)
{
	heap->finding_total++;
	if (!heap->findings)
		heap->findings = calloc(KEPT, sizeof *heap->findings);
	if (!heap->findings || heap->finding_count == KEPT)
		return;
	heap->findings[heap->finding_count++] = (struct mematlas_heap_finding){
		.address = address, .detail = detail, .kind = (uint32_t)kind, .number = number};
}

int64_t mematlas_heap_findings(const struct mematlas_heap *handle, uint64_t *total,
			       const struct mematlas_heap_finding **ret)
{
	const struct heap *heap = (const struct heap *)handle;

	*total = heap->finding_total;
	*ret = heap->findings;
	return heap->finding_count;
}
