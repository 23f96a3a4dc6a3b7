#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>

void must_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "bulkhead: bug: %s:%d: \"%s\" does not hold; please report it\n", file, line,
            cond);
    abort();
}
