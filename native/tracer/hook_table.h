/* The hooked functions, one row each. Every list of them is generated from here: the pointers to the
 * real functions, the look-up, the stubs that run before the look-up, and the table that attach
 * patches into a running program. tracer.map names what the library exports. */
#ifndef MEMATLAS_TRACER_HOOK_TABLE_H
#define MEMATLAS_TRACER_HOOK_TABLE_H

/* HOOK(result, name, parameters, stub, patched)
 *
 * stub:    FORWARD(arguments)  resolve, then call the real function
 *          BOOTSTRAP           hand-written in real.c; works while the look-up itself runs
 * patched: PATCHED             attach points the program's GOT at the hook
 *          PRELOADED           hooked only under LD_PRELOAD: attach does not follow exec, and leaves
 *                              signals to the program */
#define TRACE_HOOKS(HOOK)                                                                          \
	HOOK(void *, malloc, (size_t size), BOOTSTRAP, PATCHED)                                    \
	HOOK(void *, calloc, (size_t count, size_t size), BOOTSTRAP, PATCHED)                      \
	HOOK(void *, realloc, (void *block, size_t size), BOOTSTRAP, PATCHED)                      \
	HOOK(void *, reallocarray, (void *block, size_t count, size_t size),                       \
	     FORWARD(block, count, size), PATCHED)                                                 \
	HOOK(void, free, (void *block), BOOTSTRAP, PATCHED)                                        \
	HOOK(void *, memalign, (size_t alignment, size_t size), BOOTSTRAP, PATCHED)                \
	HOOK(void *, aligned_alloc, (size_t alignment, size_t size), BOOTSTRAP, PATCHED)           \
	HOOK(int, posix_memalign, (void **block, size_t alignment, size_t size), BOOTSTRAP,        \
	     PATCHED)                                                                              \
	HOOK(void *, valloc, (size_t size), FORWARD(size), PATCHED)                                \
	HOOK(void *, pvalloc, (size_t size), FORWARD(size), PATCHED)                               \
	HOOK(void *, mmap,                                                                         \
	     (void *start, size_t length, int protection, int flags, int fd, off_t offset),        \
	     BOOTSTRAP, PATCHED)                                                                   \
	HOOK(int, munmap, (void *start, size_t length), BOOTSTRAP, PATCHED)                        \
	HOOK(void *, mremap, (void *start, size_t length, size_t new_length, int flags, ...),      \
	     BOOTSTRAP, PATCHED)                                                                   \
	HOOK(int, mprotect, (void *start, size_t length, int protection), BOOTSTRAP, PATCHED)      \
	HOOK(int, pkey_mprotect, (void *start, size_t length, int protection, int key),            \
	     FORWARD(start, length, protection, key), PATCHED)                                     \
	HOOK(int, madvise, (void *start, size_t length, int advice), BOOTSTRAP, PATCHED)           \
	HOOK(int, malloc_trim, (size_t kept), FORWARD(kept), PATCHED)                              \
	HOOK(int, ftruncate, (int fd, off_t length), FORWARD(fd, length), PATCHED)                 \
	HOOK(int, fallocate, (int fd, int mode, off_t start, off_t length),                        \
	     FORWARD(fd, mode, start, length), PATCHED)                                            \
	HOOK(int, brk, (void *end), FORWARD(end), PATCHED)                                         \
	HOOK(void *, sbrk, (intptr_t change), FORWARD(change), PATCHED)                            \
	HOOK(void *, shmat, (int segment, const void *address, int flags),                         \
	     FORWARD(segment, address, flags), PATCHED)                                            \
	HOOK(int, shmdt, (const void *address), FORWARD(address), PATCHED)                         \
	HOOK(int, dlclose, (void *handle), FORWARD(handle), PATCHED)                               \
	HOOK(int, pthread_create,                                                                  \
	     (pthread_t * thread, const pthread_attr_t *attributes, void *(*routine)(void *),      \
	      void *argument),                                                                     \
	     FORWARD(thread, attributes, routine, argument), PATCHED)                              \
	HOOK(void, _exit, (int status), FORWARD(status), PATCHED)                                  \
	HOOK(void, quick_exit, (int status), FORWARD(status), PATCHED)                             \
	HOOK(void, abort, (void), FORWARD(), PATCHED)                                              \
	HOOK(void, __assert_fail,                                                                  \
	     (const char *assertion, const char *file, unsigned line, const char *function),       \
	     FORWARD(assertion, file, line, function), PATCHED)                                    \
	HOOK(void, __assert_perror_fail,                                                           \
	     (int error, const char *file, unsigned line, const char *function),                   \
	     FORWARD(error, file, line, function), PATCHED)                                        \
	HOOK(void, __assert, (const char *assertion, const char *file, int line),                  \
	     FORWARD(assertion, file, line), PATCHED)                                              \
	HOOK(int, prctl, (int option, ...), BOOTSTRAP, PATCHED)                                    \
	HOOK(int, setrlimit, (int resource, const struct rlimit *limit), FORWARD(resource, limit), \
	     PATCHED)                                                                              \
	HOOK(int, prlimit,                                                                         \
	     (pid_t pid, int resource, const struct rlimit *limit, struct rlimit *before),         \
	     FORWARD(pid, resource, limit, before), PATCHED)                                       \
	HOOK(int, execve, (const char *path, char *const argv[], char *const environment[]),       \
	     FORWARD(path, argv, environment), PRELOADED)                                          \
	HOOK(int, execvpe, (const char *file, char *const argv[], char *const environment[]),      \
	     FORWARD(file, argv, environment), PRELOADED)                                          \
	HOOK(int, fexecve, (int fd, char *const argv[], char *const environment[]),                \
	     FORWARD(fd, argv, environment), PRELOADED)                                            \
	HOOK(int, execveat,                                                                        \
	     (int directory, const char *path, char *const argv[], char *const environment[],      \
	      int flags),                                                                          \
	     FORWARD(directory, path, argv, environment, flags), PRELOADED)                        \
	HOOK(int, posix_spawn,                                                                     \
	     (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,            \
	      const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]), \
	     FORWARD(pid, path, actions, attributes, argv, environment), PRELOADED)                \
	HOOK(int, posix_spawnp,                                                                    \
	     (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,            \
	      const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]), \
	     FORWARD(pid, file, actions, attributes, argv, environment), PRELOADED)                \
	HOOK(int, system, (const char *line), FORWARD(line), PRELOADED)                            \
	HOOK(FILE *, popen, (const char *line, const char *mode), FORWARD(line, mode), PRELOADED)  \
	HOOK(int, sigaction,                                                                       \
	     (int number, const struct sigaction *action, struct sigaction *before),               \
	     FORWARD(number, action, before), PRELOADED)                                           \
	HOOK(sighandler_t, signal, (int number, sighandler_t handler), FORWARD(number, handler),   \
	     PRELOADED)                                                                            \
	HOOK(int, sigprocmask, (int how, const sigset_t *set, sigset_t *before),                   \
	     FORWARD(how, set, before), PRELOADED)                                                 \
	HOOK(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *before),               \
	     FORWARD(how, set, before), PRELOADED)

/* HOOK(name, patched): further names of the functions above. syscall() has a pointer of its own, since
 * its hook is assembly; the forms of exec end in execve() or execvpe(). */
#define TRACE_HOOK_ALIASES(HOOK)                                                                   \
	HOOK(mmap64, PATCHED)                                                                      \
	HOOK(ftruncate64, PATCHED)                                                                 \
	HOOK(fallocate64, PATCHED)                                                                 \
	HOOK(_Exit, PATCHED)                                                                       \
	HOOK(setrlimit64, PATCHED)                                                                 \
	HOOK(prlimit64, PATCHED)                                                                   \
	HOOK(syscall, PATCHED)                                                                     \
	HOOK(execv, PRELOADED)                                                                     \
	HOOK(execvp, PRELOADED)                                                                    \
	HOOK(execl, PRELOADED)                                                                     \
	HOOK(execlp, PRELOADED)                                                                    \
	HOOK(execle, PRELOADED)

/* NEW(name), DELETE(name): the C++ operators. */
#define TRACE_HOOK_OPERATORS(NEW, DELETE)                                                          \
	NEW(_Znwm)                                                                                 \
	NEW(_Znam)                                                                                 \
	NEW(_ZnwmRKSt9nothrow_t)                                                                   \
	NEW(_ZnamRKSt9nothrow_t)                                                                   \
	NEW(_ZnwmSt11align_val_t)                                                                  \
	NEW(_ZnamSt11align_val_t)                                                                  \
	NEW(_ZnwmSt11align_val_tRKSt9nothrow_t)                                                    \
	NEW(_ZnamSt11align_val_tRKSt9nothrow_t)                                                    \
	DELETE(_ZdlPv)                                                                             \
	DELETE(_ZdaPv)                                                                             \
	DELETE(_ZdlPvm)                                                                            \
	DELETE(_ZdaPvm)                                                                            \
	DELETE(_ZdlPvRKSt9nothrow_t)                                                               \
	DELETE(_ZdaPvRKSt9nothrow_t)                                                               \
	DELETE(_ZdlPvSt11align_val_t)                                                              \
	DELETE(_ZdaPvSt11align_val_t)                                                              \
	DELETE(_ZdlPvmSt11align_val_t)                                                             \
	DELETE(_ZdaPvmSt11align_val_t)                                                             \
	DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t)                                                \
	DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t)

#endif
