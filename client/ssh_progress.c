/* How far a copy is: a line on the terminal, or an event a line. */
#include <stdio.h>
#include <string.h>

#include "client/clock.h"
#include "client/out.h"
#include "client/ssh_copy.h"
#include "client/term.h"
#include "client/view.h"
#include "proto/json.h"
#include "proto/text.h"

/* The line is drawn anew this often, events come this often. */
#define SHOW_MS 100
#define EVENT_MS 500

/* Failures of single files that are told; of ten thousand more nobody reads the rest. */
#define FAILURES_TOLD 20

#define BAR_WIDTH 24

/* The longest wait for an answer: progress is shown and an interrupt seen this often. */
#define STEP_MS 100

void
copy_fail(struct copy *c, const char *path, const char *why)
{
	struct cij_error err = CIJ_ERROR_INIT;
	char clean[512];

	if (c->class == CIJ_E_NONE)
		c->class = CIJ_E_FAILED;
	c->failures++;
	cij_error_set(&err, CIJ_E_FAILED, "%s: '%s': %s", c->call->guest,
		cij_text_clean(path, clean, sizeof(clean)), why);
	if (c->failures <= FAILURES_TOLD)
		out_error(&err);
	else if (c->failures == FAILURES_TOLD + 1)
		out_note("further failures are only counted");
}

void
copy_skip(void *arg, const char *path, const char *why)
{
	copy_fail(arg, path, why);
}

/* Bytes a second, over the whole time: what is left is told by what was. */
static double
rate(const struct copy *c, int64_t now)
{
	return now > c->began ? (double)c->bytes_done * 1000 / (double)(now - c->began) : 0;
}

static void
show_line(const struct copy *c, int64_t now)
{
	double per_second = rate(c, now);
	char done[24], total[24], speed[24], left[32] = "", bar[BAR_WIDTH + 1];
	int percent, filled;

	cij_size_human(c->bytes_done, done, sizeof(done));
	cij_size_human((int64_t)per_second, speed, sizeof(speed));
	if (!c->counted || c->plan.bytes <= 0) {
		out_progress("%s %s  %zu files, %s, %s/s", c->push ? "to" : "from", c->call->guest,
			c->files_done, done, speed);
		return;
	}
	cij_size_human(c->plan.bytes, total, sizeof(total));
	percent = (int)(c->bytes_done * 100 / c->plan.bytes);
	percent = percent > 100 ? 100 : percent;
	filled = percent * BAR_WIDTH / 100;
	memset(bar, '-', BAR_WIDTH);
	memset(bar, '#', filled);
	bar[BAR_WIDTH] = '\0';
	if (per_second > 0)
		duration_text((int64_t)((double)(c->plan.bytes - c->bytes_done) / per_second), left,
			sizeof(left));
	out_progress("%s %s [%s] %3d%%  %s of %s  %zu/%zu files  %s/s  %s left",
		c->push ? "to" : "from", c->call->guest, bar, percent, done, total, c->files_done,
		c->plan.files, speed, left);
}

static void
add_total(struct json_object *data, const char *name, bool known, int64_t n)
{
	json_object_object_add(data, name, known ? json_object_new_int64(n) : NULL);
}

static void
print_event(const struct copy *c, const char *word, int64_t now)
{
	_cleanup_json_ struct json_object *event = json_object_new_object();
	struct json_object *data = json_object_new_object();

	cij_json_add_str(event, "event", word);
	json_object_object_add(event, "data", data);
	cij_json_add_str(data, "guest", c->call->guest);
	cij_json_add_str(data, "direction", c->push ? "push" : "pull");
	cij_json_add_int(data, "bytes", c->bytes_done);
	add_total(data, "total_bytes", c->counted, c->plan.bytes);
	cij_json_add_int(data, "files", (int64_t)c->files_done);
	add_total(data, "total_files", c->counted, (int64_t)c->plan.files);
	cij_json_add_int(data, "failures", (int64_t)c->failures);
	json_object_object_add(
		data, "seconds", json_object_new_double((double)(now - c->began) / 1000));
	cij_json_add_int(data, "bytes_per_second", (int64_t)rate(c, now));
	if (c->current) {
		char clean[1024];

		cij_json_add_str(data, "file", cij_text_clean(c->current, clean, sizeof(clean)));
	}
	printf("%s\n", json_object_to_json_string_ext(event, JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
}

int
copy_tick(struct copy *c, struct cij_error *err)
{
	int64_t now = clock_ms();
	/* Anything at all that happens: bytes, files, names. */
	int64_t moved = c->bytes_done + (int64_t)c->files_done + (int64_t)c->plan.n +
			(int64_t)c->failures;

	if (c->began == 0)
		c->began = c->last_moved = now;
	if (term_caught())
		return cij_error_set(err, CIJ_E_FAILED, "%s: interrupted", c->call->guest);
	if (moved != c->last_bytes) {
		c->last_bytes = moved;
		c->last_moved = now;
	} else if (now - c->last_moved > COPY_STALL_SECONDS * 1000) {
		return cij_error_set(err, CIJ_E_TIMEOUT, "%s: nothing came through for %d s",
			c->call->guest, COPY_STALL_SECONDS);
	}
	if (now - c->last_shown < (c->call->json ? EVENT_MS : SHOW_MS))
		return 0;
	c->last_shown = now;
	if (c->call->json)
		print_event(c, "PROGRESS", now);
	else if (out_has_progress())
		show_line(c, now);
	return 0;
}

int
copy_step(struct copy *c, struct sftp *sftp, struct cij_error *err)
{
	return copy_tick(c, err) < 0 ? -1 : sftp_step(sftp, STEP_MS, err);
}

void
copy_done(const struct copy *c)
{
	char bytes[24], speed[24];
	int64_t now = clock_ms();

	out_progress_end();
	if (c->call->json) {
		print_event(c, "DONE", now);
		return;
	}
	if (!out_has_progress() && !c->call->verbose)
		return;
	out_note("%s: %zu file%s, %s in %.1f s, %s/s%s", c->call->guest, c->files_done,
		c->files_done == 1 ? "" : "s", cij_size_human(c->bytes_done, bytes, sizeof(bytes)),
		(double)(now - c->began) / 1000,
		cij_size_human((int64_t)rate(c, now), speed, sizeof(speed)),
		c->failures ? "; not all" : "");
}
