#include "browser_scene.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *sdk(void)
{
    return getenv("BULKHEAD_SDK");
}

void browser_needed(void)
{
    char *out;

    if (run_command(NULL, "command -v node && command -v chromium") != 0) {
        print_message("skipped: there is no node or chromium here\n");
        skip();
    }
    if (run_command(&out, "%s/../scripts/npm.sh %s/../tests/browser", sdk(), sdk()) != 0) {
        print_message("skipped: %s\n", out);
        skip();
    }
    free(out);
}

void browser_run(const char *script, const char *arguments, ...)
{
    char *out, *given;
    int status, n;
    va_list ap;

    va_start(ap, arguments);
    n = vasprintf(&given, arguments, ap);
    va_end(ap);
    assert_true(n >= 0);
    status = run_command(&out, "node %s/../tests/browser/%s %s", sdk(), script, given);
    if (status != 0 || strstr(out, "ok\n") == NULL)
        harness_fail(__FILE__, __LINE__, "%s: status %d:\n%.8000s", script, status, out);
    for (char *line = strtok(out, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (strncmp(line, "figure: ", 8) == 0)
            print_message("%s\n", line + 8);
    free(given);
    free(out);
}

void browser_build_app(const char *dir, const char *name, const char *version, const char *call)
{
    char text[2048];
    char *path;

    snprintf(text, sizeof text,
             "#include <bulkhead.h>\n"
             "__attribute__((noinline)) static bh_rc go_wrong(bh_req *req)\n"
             "{\n"
             "    volatile int *p = 0;\n"
             "    (void)req;\n"
             "    return *p;\n"
             "}\n"
             "static bh_rc be_fine(bh_req *req)\n"
             "{\n"
             "    return bh_reply(req, 200, \"text/plain\", \"fine\\n\");\n"
             "}\n"
             "static bh_rc on_request(void *self, bh_req *req, void *ctx)\n"
             "{\n"
             "    (void)self, (void)ctx, (void)go_wrong, (void)be_fine;\n"
             "    return %s(req);\n"
             "}\n"
             "BH_PLUGIN(\"app\", \"%s\", .summary = \"Answers\", .on_request = on_request)\n",
             call, version);
    path = plugin_build(dir, name, text);
    free(path);
}
