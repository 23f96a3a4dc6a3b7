/*
 * curl.h - libcurl, loaded when it is needed for the first time.
 *
 * It brings two dozen libraries along, and most processes never make a connection of their own: so it
 * is not linked, but opened with dlopen(), by whoever is about to use it. What a newcomer would get
 * wrong: nothing here may be called by its name (curl_easy_init() is not linked); it is
 * curl->easy_init(). Types and constants are those of <curl/curl.h>.
 *
 *     const struct curl *curl;
 *     int r = curl_load(&curl, why, sizeof why);
 *
 * Not from within a call into a plugin (what the library allocates would be taken for the plugin's),
 * and by one thread at a time.
 */
#ifndef BASE_CURL_H
#define BASE_CURL_H

#include <curl/curl.h>
#include <stddef.h>

/* Every function that is used, without its curl_. X(name) */
#define CURL_FUNCTIONS(X)  \
    X(global_init)         \
    X(version_info)        \
    X(free)                \
    X(getdate)             \
    X(slist_append)        \
    X(slist_free_all)      \
    X(easy_init)           \
    X(easy_cleanup)        \
    X(easy_reset)          \
    X(easy_pause)          \
    X(easy_strerror)       \
    X(easy_perform)        \
    X(multi_init)          \
    X(multi_cleanup)       \
    X(multi_add_handle)    \
    X(multi_remove_handle) \
    X(multi_perform)       \
    X(multi_poll)          \
    X(multi_wakeup)        \
    X(multi_timeout)       \
    X(multi_assign)        \
    X(multi_socket_action) \
    X(multi_info_read)     \
    X(multi_strerror)      \
    X(url)                 \
    X(url_cleanup)         \
    X(url_set)             \
    X(url_get)

/* Those that <curl/curl.h> makes macros of: their types stand here. */
#define CURL_VARIADIC(X)                                \
    X(easy_setopt, CURLcode, (CURL *, CURLoption, ...)) \
    X(easy_getinfo, CURLcode, (CURL *, CURLINFO, ...))  \
    X(multi_setopt, CURLMcode, (CURLM *, CURLMoption, ...))

struct curl {
#define CURL_MEMBER(NAME) __typeof__(curl_##NAME) *NAME;
    CURL_FUNCTIONS(CURL_MEMBER)
#undef CURL_MEMBER
#define CURL_MEMBER(NAME, RESULT, ARGUMENTS) RESULT(*NAME) ARGUMENTS;
    CURL_VARIADIC(CURL_MEMBER)
#undef CURL_MEMBER
};

/* 0 and the functions, which stay for the life of the process; or -ENOENT, -ELIBBAD, -ENOMEM and a
 * line for people in why: what is missing, and which package has it. A failure is tried again by the
 * next call. */
int curl_load(const struct curl **out, char *why, size_t size);

#endif
