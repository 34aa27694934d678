/* Columns of text, as wide as their longest cell. */
#ifndef CLIENT_TABLE_H
#define CLIENT_TABLE_H

#include <stdbool.h>
#include <stddef.h>

struct table {
	size_t n_columns;
	struct cell {
		char *text;
		const char *colour; /* weak: what goes between ESC [ and m, or NULL */
	} * cells;
	size_t n_cells;
};

void table_clear(struct table *table);
#define _cleanup_table_ _cleanup_(table_clear)

/* Adds a cell at the end of the last row; its text is copied, without control characters. */
void table_add(struct table *table, const char *text, const char *colour);

/* Prints it on stdout; the first row is the heading. */
void table_print(const struct table *table, bool colours);

/* Columns that UTF-8 text takes on a terminal. */
size_t text_width(const char *text);

#endif
