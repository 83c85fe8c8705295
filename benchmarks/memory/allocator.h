/* The allocator that a benchmark is built for: -DPOOL, -DARENA, or malloc(3). */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include <stddef.h>
#include <stdlib.h>

#if defined POOL || defined ARENA
#include "mematlas.h"
#endif

#if defined POOL
extern struct mematlas_pool *pool;
static inline void *alloc_object(size_t size)
{
	(void)size;
	return mematlas_pool_alloc(pool);
}
static inline void free_object(void *object)
{
	mematlas_pool_free(pool, object);
}
#elif defined ARENA
extern struct mematlas_arena *arena;
static inline void *alloc_object(size_t size)
{
	return mematlas_arena_alloc(arena, size, 0);
}
static inline void free_object(void *object)
{
	mematlas_arena_free(arena, object);
}
#else
static inline void *alloc_object(size_t size)
{
	return malloc(size);
}
static inline void free_object(void *object)
{
	free(object);
}
#endif

#endif
