/* The code of a process: which file an address belongs to, and what that file is. */
#ifndef MEMATLAS_ATTACH_TARGET_H
#define MEMATLAS_ATTACH_TARGET_H

#include "functions.h"
#include "mematlas.h"
#include "process_memory.h"

enum module_kind {
	MODULE_PROGRAM,   /* the program and its libraries */
	MODULE_LIBC,      /* the C library and its former parts */
	MODULE_LOADER,    /* ld.so */
	MODULE_ALLOCATOR, /* a library that replaces malloc(), or the tracer */
	MODULE_JIT        /* no ELF file: code made while the program runs */
};

#define MODULE_NAME 64

struct module {
	enum module_kind kind;
	struct image image;
	struct functions functions; /* of MODULE_LIBC, MODULE_LOADER and MODULE_ALLOCATOR */
	uint64_t device, inode;
	bool defines_malloc; /* of MODULE_PROGRAM: the allocator is linked into the file */
	char name[MODULE_NAME]; /* of the file, without directories */
};

/* A range of executable memory. start < end */
struct code {
	uint64_t start, end;
	uint32_t module;
};

/* codes[i].end <= codes[i + 1].start; codes[i].module < module_count */
struct mematlas_target {
	int pid;
	bool own_allocator; /* a file of kind MODULE_PROGRAM defines malloc() */
	struct module *modules;
	struct code *codes;
	uint64_t module_count, code_count;
	struct process_memory memory;
};

/* NULL: no executable memory of the process. */
struct module *target_module_at(struct mematlas_target *target, uint64_t pc);

#endif
