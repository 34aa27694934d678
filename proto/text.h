/* Small readings of user text: guest names, sizes, globs, and the nearest word to a wrong one. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cijqemu/error.h"

/* Whether @name may name a guest; BadRequest that says why not. */
int cij_guest_name_check(const char *name, struct cij_error *err);

/*
 * Reads a size: a whole number of bytes, or one followed by K, M, G or T (powers of 1024, either
 * case, "iB" or "B" may follow). Returns 0, or -1 for what is no size or does not fit an int64_t.
 */
int cij_size_parse(const char *text, int64_t *bytes);

/* Writes @bytes as "2G", "1536M" or "1000" where that is exact. @buf: 24 bytes. Returns @buf. */
const char *cij_size_exact(int64_t bytes, char *buf, size_t size);

/* Writes @bytes rounded to what a person reads: "7.5G". Returns @buf. */
const char *cij_size_human(int64_t bytes, char *buf, size_t size);

/*
 * The candidate nearest to @word by edit distance, if it is near enough to be meant; else NULL.
 * @next yields the candidates one after the other and NULL at the end.
 */
const char *cij_nearest(const char *word, const char *(*next)(void *arg), void *arg);

/* As cij_nearest() among the @n words at @words. */
const char *cij_nearest_of(const char *word, const char *const *words, size_t n);

/* Whether @name matches the shell glob @glob ("*", "?", "[…]"). */
bool cij_glob_match(const char *glob, const char *name);

/* Whether @text has a glob's special characters. */
bool cij_is_glob(const char *text);

/*
 * The bytes of the UTF-8 character that begins the @len bytes at @text; 0 when there is none whole
 * (overlong forms and surrogates are none).
 */
size_t cij_utf8_len(const char *text, size_t len);

/*
 * Copies @text so that it is safe on a terminal and in a log: control characters and invalid UTF-8
 * become '?', and what does not fit is cut. Returns @buf.
 */
const char *cij_text_clean(const char *text, char *buf, size_t size);

#endif
