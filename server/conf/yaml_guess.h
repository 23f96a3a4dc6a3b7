/* yaml_guess.h - a hint for a text that libyaml cannot parse. */
#ifndef CONF_YAML_GUESS_H
#define CONF_YAML_GUESS_H

#include <stddef.h>
#include <yaml.h>

/* What would work, or NULL. p: has failed on text. The hint is constant, or in buf. */
const char *yaml_guess(const yaml_parser_t *p, const char *text, char *buf, size_t size);

#endif
