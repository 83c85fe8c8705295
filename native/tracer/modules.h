/* Loaded modules by address. */
#ifndef MEMATLAS_TRACER_MODULES_H
#define MEMATLAS_TRACER_MODULES_H

struct link_map;

/* glibc's struct dl_find_object (dlfcn.h). */
struct trace_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame; /* PT_GNU_EH_FRAME */
	unsigned long long reserved[8];
};

/* The loader's lock-free look-up, since glibc 2.35. Weak: with an older glibc modules come from
 * /proc/PID/maps. */
extern int trace_find_object(void *address, struct trace_object *result) __asm__("_dl_find_object")
	__attribute__((weak));

#endif
