/*
 * fuzz_config.c - any bytes as a config file: YAML, the table of keys, chains, listeners.
 *
 * libFuzzer; a file is written because config_load() wants one. Seeds: config/ of the sources.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/diag.h"
#include "conf/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char path[] = "/dev/shm/fuzz-config-XXXXXX";
    static int fd = -1;
    struct config *cfg = NULL;
    struct diag diag;

    if (fd < 0 && (fd = mkstemp(path)) < 0)
        abort();
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, n, 0) != (ssize_t)n)
        abort();
    diag_init(&diag);
    if ((config_load(path, &diag, &cfg) < 0) != (diag.n_errors > 0))
        abort(); /* refused without a word, or taken with one */
    config_destroy(&cfg);
    diag_fini(&diag);
    return 0;
}
