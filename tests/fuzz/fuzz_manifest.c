/*
 * fuzz_manifest.c - any bytes as a plugin object.
 *
 * libFuzzer. Seeds: small objects, such as those of build/plugins after `strip`.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/diag.h"
#include "plugin/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct manifest *m = NULL;
    struct diag diag;

    diag_init(&diag);
    if ((manifest_parse(data, n, "fuzz", NULL, &diag, &m) < 0) != (diag.n_errors > 0))
        abort(); /* refused without a word, or taken with one */
    manifest_destroy(&m);
    diag_fini(&diag);
    return 0;
}
