#include "client/top_screen.h"

#include <ncurses.h>
#include <string.h>
#include <time.h>

#include "client/table.h"
#include "client/view.h"

/* Lines above the guests (totals, order, headings) and below (keys). */
#define LINES_ABOVE 3
#define LINES_BELOW 1

/* What fits into 80 columns; and what comes in, in this order, as the terminal is wider. */
static const enum load_column always[] = {LOAD_NAME, LOAD_STATE, LOAD_CPU, LOAD_MEMORY, LOAD_DISK,
	LOAD_NVME_READ, LOAD_NVME_WRITE, LOAD_CONSOLE, LOAD_BOOT, LOAD_VIEWERS, LOAD_LEASE};
static const enum load_column when_wider[] = {LOAD_UPTIME, LOAD_OWNER, LOAD_NVME_IOPS};

/* Names are given what is left, up to this. */
#define NAME_WIDTH_MAX 40

static const char *const help_lines[] = {
	"Up Down PgUp PgDn Home End   choose a guest (also k j)",
	"Enter, c                     its console; the console's escape key leads back",
	"/                            show only names that contain this, or match a glob",
	"Esc                          show all again",
	"< >                          sort by the column to the left, to the right",
	"N S O P M D R                sort by NAME STATE OWNER CPU% MEM DISK/s NVMe-R",
	"W I B T U V L                by NVMe-W IOPS CONS/s BOOT UPTIME VW LEASE",
	"r                            the other way round",
	"space                        look again now",
	"?, h                         this help, or back from it",
	"q                            leave",
	"",
	"CPU% is of one processor. NVMe-R, NVMe-W and IOPS are the drives of guest.json's",
	"\"devices\", DISK/s is what others there are, read and written. VW counts who is",
	"attached to the console. A wide screen shows OWNER, IOPS and UPTIME as well.",
};

void
screen_begin(struct screen *s)
{
	s->curses = newterm(NULL, stdout, stdin);
	if (!s->curses)
		abort(); /* the guard has seen that the terminal is one */
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(50); /* a key's sequence comes at once; a person's Esc is seen soon */
	curs_set(0);
	s->colours = s->colours && has_colors();
	if (!s->colours)
		return;
	start_color();
	use_default_colors();
	for (short c = 1; c < 8; c++)
		init_pair(c, c, -1);
}

void
screen_end(struct screen *s)
{
	endwin();
	delscreen(s->curses);
	free(s->selected);
}

long
screen_page(void)
{
	long n = LINES - LINES_ABOVE - LINES_BELOW;

	return n > 1 ? n : 1;
}

/* Prints as much of @text as @width columns take, then blanks up to there. */
static void
put(const char *text, int width, bool left)
{
	char part[512];
	size_t n = 0;
	int used;

	while (text[n] && n + 1 < sizeof(part)) {
		part[n] = text[n];
		part[++n] = '\0';
		while ((text[n] & 0xc0) == 0x80 && n + 1 < sizeof(part)) {
			part[n] = text[n];
			part[++n] = '\0';
		}
		if ((int)text_width(part) > width) {
			do
				n--;
			while (n > 0 && (part[n] & 0xc0) == 0x80);
			break;
		}
	}
	part[n] = '\0';
	used = (int)text_width(part);
	if (!left)
		printw("%*s", width - used, "");
	addstr(part);
	if (left)
		printw("%*s", width - used, "");
}

/* Puts one line of text at @y, cut to the screen. */
static void
put_line(int y, const char *text)
{
	if (y < 0 || y >= LINES)
		return;
	move(y, 0);
	/* Written into the last cell of the last line, some terminals scroll. */
	put(text, y == LINES - 1 ? COLS - 1 : COLS, true);
}

struct layout {
	bool shown[LOAD_COLUMNS];
	int name_width;
};

/* Which columns fit. */
static struct layout
lay_out(void)
{
	struct layout l = {{false}, 0};
	int left = COLS - 1;

	for (size_t i = 0; i < cij_array_size(always); i++) {
		l.shown[always[i]] = true;
		left -= load_columns[always[i]].width + (i > 0);
	}
	for (size_t i = 0; i < cij_array_size(when_wider); i++) {
		int width = load_columns[when_wider[i]].width + 1;

		if (left < width)
			break;
		l.shown[when_wider[i]] = true;
		left -= width;
	}
	l.name_width = load_columns[LOAD_NAME].width + (left > 0 ? left : 0);
	if (l.name_width > NAME_WIDTH_MAX)
		l.name_width = NAME_WIDTH_MAX;
	return l;
}

/* Moves on to the next cell of @width. Returns false where the screen ends before it does. */
static bool
next_cell(int y, int *x, int width)
{
	if (*x > 0)
		(*x)++;
	if (*x + width > COLS)
		return false;
	move(y, *x);
	*x += width;
	return true;
}

static int
width_of(const struct layout *l, int column)
{
	return column == LOAD_NAME ? l->name_width : load_columns[column].width;
}

static void
draw_heading(const struct screen *s, const struct layout *l, int y)
{
	int x = 0;

	move(y, 0);
	attron(A_REVERSE);
	hline(' ' | A_REVERSE, COLS);
	for (int c = 0; c < LOAD_COLUMNS; c++) {
		int width = width_of(l, c);

		if (!l->shown[c])
			continue;
		if (!next_cell(y, &x, width))
			break;
		attrset(c == (int)s->load.sort ? A_REVERSE | A_BOLD | A_UNDERLINE : A_REVERSE);
		put(load_columns[c].title, width, load_columns[c].left);
	}
	attrset(A_NORMAL);
}

/* What ncurses calls the colour that 'list' gives a state. */
static attr_t
state_attributes(const struct screen *s, const char *state)
{
	const char *colour = strcmp(state, "hung") == 0 ? "31" : view_state_colour(state);

	if (!s->colours || !colour)
		return A_NORMAL;
	if (strcmp(colour, "2") == 0)
		return A_DIM;
	return COLOR_PAIR(atoi(colour) - 30);
}

static void
draw_row(const struct screen *s, const struct layout *l, int y, const struct load_row *row)
{
	bool bar = s->selected && strcmp(s->selected, row->name) == 0;
	attr_t base = bar ? A_REVERSE : A_NORMAL;
	int x = 0;

	move(y, 0);
	hline(' ' | base, COLS);
	for (int c = 0; c < LOAD_COLUMNS; c++) {
		int width = width_of(l, c);
		char text[256];

		if (!l->shown[c])
			continue;
		if (!next_cell(y, &x, width))
			break;
		attrset(base | (c == LOAD_STATE && !bar ? state_attributes(s, row->state) : 0));
		put(load_text(row, c, text, sizeof(text)), width, load_columns[c].left);
	}
	attrset(A_NORMAL);
}

/* The sum of what is known of a column. */
static double
sum(const struct load *load, enum load_column column)
{
	double total = 0;

	for (size_t i = 0; i < load->n; i++)
		if (load->rows[i].values[column] > 0)
			total += load->rows[i].values[column];
	return total;
}

static void
draw_totals(const struct screen *s)
{
	struct load_row total = {0};
	char line[512], now[16], cpu[32], memory[32];
	time_t t = time(NULL);
	struct tm tm;

	total.values[LOAD_CPU] = sum(&s->load, LOAD_CPU);
	total.values[LOAD_MEMORY] = sum(&s->load, LOAD_MEMORY);
	strftime(now, sizeof(now), "%H:%M:%S", localtime_r(&t, &tm));
	snprintf(line, sizeof(line), "%s  %zu guest%s, %zu running  CPU %s%%  MEM %s", now,
		s->load.n_all, s->load.n_all == 1 ? "" : "s", s->load.n_running,
		load_text(&total, LOAD_CPU, cpu, sizeof(cpu)),
		load_text(&total, LOAD_MEMORY, memory, sizeof(memory)));
	put_line(0, line);
}

static void
draw_order(const struct screen *s)
{
	const struct load *load = &s->load;
	bool up = load_columns[load->sort].text != load->reverse;
	char line[512];

	if (s->typing)
		snprintf(line, sizeof(line), "filter: %s_", load->filter);
	else if (*s->note)
		snprintf(line, sizeof(line), "%s", s->note);
	else if (*load->filter)
		snprintf(line, sizeof(line), "by %s, %s first; '%s': %zu of %zu",
			load_columns[load->sort].title, up ? "lowest" : "highest", load->filter,
			load->n, load->n_all);
	else
		snprintf(line, sizeof(line), "by %s, %s first", load_columns[load->sort].title,
			up ? "lowest" : "highest");
	if (*s->note && !s->typing)
		attron(A_BOLD);
	put_line(1, line);
	attrset(A_NORMAL);
}

/* The row under the bar; where its guest is gone, the bar goes to the first. */
static size_t
selected_row(struct screen *s)
{
	const struct load *load = &s->load;

	for (size_t i = 0; s->selected && i < load->n; i++)
		if (strcmp(load->rows[i].name, s->selected) == 0)
			return i;
	free(s->selected);
	s->selected = load->n > 0 ? strdup(load->rows[0].name) : NULL;
	return 0;
}

void
screen_move(struct screen *s, long by)
{
	long to = (long)selected_row(s) + by;

	if (s->load.n == 0)
		return;
	if (to >= (long)s->load.n)
		to = (long)s->load.n - 1;
	if (to < 0)
		to = 0;
	free(s->selected);
	s->selected = strdup(s->load.rows[to].name);
}

static void
draw_rows(struct screen *s, const struct layout *l)
{
	size_t at = selected_row(s), page = (size_t)screen_page();

	if (at < s->first)
		s->first = at;
	if (at >= s->first + page)
		s->first = at - page + 1;
	if (s->first > 0 && s->first + page > s->load.n)
		s->first = s->load.n > page ? s->load.n - page : 0;
	for (size_t i = 0; i < page && s->first + i < s->load.n; i++)
		if (LINES_ABOVE + (int)i < LINES - LINES_BELOW)
			draw_row(s, l, LINES_ABOVE + (int)i, &s->load.rows[s->first + i]);
}

void
screen_draw(struct screen *s)
{
	struct layout l = lay_out();

	erase();
	draw_totals(s);
	draw_order(s);
	if (s->help) {
		for (size_t i = 0; i < cij_array_size(help_lines); i++)
			if (LINES_ABOVE + (int)i < LINES - LINES_BELOW)
				put_line(LINES_ABOVE + (int)i, help_lines[i]);
	} else {
		draw_heading(s, &l, 2);
		draw_rows(s, &l);
	}
	put_line(LINES - 1,
		s->typing ? "Enter keep  Esc show all"
			  : "q quit  ? keys  Enter console  / filter  < > sort  r reverse");
	refresh();
}
