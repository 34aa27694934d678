#include "client/table.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cijqemu/cleanup.h"
#include "proto/text.h"

/* Longest text of one cell: an error in the last column. */
#define CELL_MAX 1024

void
table_clear(struct table *t)
{
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i].text);
	free(t->cells);
	*t = (struct table){.n_columns = t->n_columns};
}

void
table_add(struct table *t, const char *text, const char *colour)
{
	char clean[CELL_MAX];

	if ((t->n_cells & (t->n_cells - 1)) == 0) { /* grow at each power of two */
		t->cells = realloc(t->cells, (t->n_cells ? t->n_cells * 2 : 1) * sizeof(*t->cells));
		if (!t->cells)
			abort();
	}
	t->cells[t->n_cells].text = strdup(cij_text_clean(text, clean, sizeof(clean)));
	t->cells[t->n_cells].colour = colour;
	if (!t->cells[t->n_cells++].text)
		abort();
}

/*
 * The terminal columns of one character. wcwidth() would need the locale, which costs a client a
 * third of its start-up; these are the ranges of East Asian width W and of combining marks in use.
 */
static size_t
char_width(uint32_t c)
{
	static const struct {
		uint32_t from, to;
		size_t width;
	} ranges[] = {
		{0x300, 0x36f, 0},
		{0x1100, 0x115f, 2},
		{0x200b, 0x200f, 0},
		{0x20d0, 0x20ff, 0},
		{0x2e80, 0xa4cf, 2},
		{0xac00, 0xd7a3, 2},
		{0xf900, 0xfaff, 2},
		{0xfe00, 0xfe0f, 0},
		{0xfe30, 0xfe6f, 2},
		{0xff00, 0xff60, 2},
		{0x1f300, 0x1faff, 2},
		{0x20000, 0x3fffd, 2},
	};

	for (size_t i = 0; i < cij_array_size(ranges); i++)
		if (c >= ranges[i].from && c <= ranges[i].to)
			return ranges[i].width;
	return 1;
}

size_t
text_width(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t width = 0;

	while (*p) {
		uint32_t c = *p++;

		if (c >= 0xc0) {
			c &= c >= 0xf0 ? 0x07 : c >= 0xe0 ? 0x0f : 0x1f;
			while ((*p & 0xc0) == 0x80)
				c = c << 6 | (*p++ & 0x3f);
			width += char_width(c);
		} else {
			width++;
		}
	}
	return width;
}

/* Whether nothing follows cell @i in its row: no blanks go behind it. */
static bool
is_last(const struct table *t, size_t i)
{
	while (++i % t->n_columns)
		if (*t->cells[i].text)
			return false;
	return true;
}

void
table_print(const struct table *t, bool colours)
{
	_cleanup_free_ size_t *widths = calloc(t->n_columns, sizeof(*widths));

	if (!widths)
		abort();
	for (size_t i = 0; i < t->n_cells; i++) {
		size_t w = text_width(t->cells[i].text);

		if (w > widths[i % t->n_columns])
			widths[i % t->n_columns] = w;
	}
	for (size_t i = 0; i < t->n_cells; i++) {
		const struct cell *cell = &t->cells[i];
		size_t column = i % t->n_columns;
		bool colour = colours && cell->colour;

		printf("%s%s%s%s%s", colour ? "\033[" : "", colour ? cell->colour : "",
			colour ? "m" : "", cell->text, colour ? "\033[0m" : "");
		if (column + 1 == t->n_columns)
			putchar('\n');
		else if (!is_last(t, i))
			printf("%*s", (int)(widths[column] - text_width(cell->text) + 2), "");
	}
}
