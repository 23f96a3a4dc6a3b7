/*
 * backend.c - libraries that are needed only where a backend is configured.
 */
#include "backend.h"

#include <dlfcn.h>
#include <errno.h>

/* It stays loaded: its threads and its atexit() functions are in it. */
int backend_load(const char *library, const char *package, const char *const *names, void **out,
                 char why[WHY_SIZE])
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

    if (handle == NULL) {
        snprintf(why, WHY_SIZE, "%s; it is in the package %s", dlerror(), package);
        return -ENOENT;
    }
    for (size_t i = 0; names[i] != NULL; i++) {
        out[i] = dlsym(handle, names[i]);
        if (out[i] == NULL) {
            snprintf(why, WHY_SIZE, "%s has no %s: too old", library, names[i]);
            return -ENOENT;
        }
    }
    return 0;
}
