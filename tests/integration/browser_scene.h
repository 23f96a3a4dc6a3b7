/*
 * browser_scene.h - what the tests of the dashboard share: scripts of tests/browser, run in node with a headless
 * Chromium.
 */
#ifndef BROWSER_SCENE_H
#define BROWSER_SCENE_H

#include "harness.h"

/* Skips the test where there is no chromium, node, or npm package that the scripts need, and no way to get it. */
void browser_needed(void);

/* tests/browser/SCRIPT with these arguments has to say "ok"; what else it says at the ends of its lines, as
 * "figure: ...", is shown. */
void browser_run(const char *script, const char *arguments, ...)
    __attribute__((format(printf, 2, 3)));

/* DIR/NAME.so: the plugin `app` of that version, whose on_request returns call(req): be_fine or go_wrong. */
void browser_build_app(const char *dir, const char *name, const char *version, const char *call);

#endif
