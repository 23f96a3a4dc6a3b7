#include "base/curl.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Bulkhead's TLS is GnuTLS's; with OpenSSL's libcurl both would be in the process. */
#define LIBRARY "libcurl-gnutls.so.4"
#define PACKAGE "libcurl3-gnutls"

static struct curl table;
static bool is_loaded;

static bool find(void *library, const char *name, void *member, char *why, size_t size)
{
    void *symbol = dlsym(library, name);

    if (symbol == NULL) {
        snprintf(why, size, "%s has no %s(): it is older than 7.88, and too old", LIBRARY, name);
        return false;
    }
    memcpy(member, &symbol, sizeof symbol); /* a pointer to a function, as POSIX has it */
    return true;
}

static int fill(void *library, char *why, size_t size)
{
#define FIND(NAME, ...)                                        \
    if (!find(library, "curl_" #NAME, &table.NAME, why, size)) \
        return -ELIBBAD;
    CURL_FUNCTIONS(FIND)
    CURL_VARIADIC(FIND)
#undef FIND
    return 0;
}

int curl_load(const struct curl **out, char *why, size_t size)
{
    void *library;
    int r;

    if (!is_loaded) {
        library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            snprintf(why, size, "%s cannot be loaded (%s): apt-get install %s", LIBRARY, dlerror(),
                     PACKAGE);
            return -ENOENT;
        }
        r = fill(library, why, size);
        if (r == 0 && table.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
            snprintf(why, size, "%s cannot be initialised: out of memory?", LIBRARY);
            r = -ENOMEM;
        }
        if (r < 0) {
            dlclose(library);
            return r;
        }
        is_loaded = true;
    }
    *out = &table;
    return 0;
}
