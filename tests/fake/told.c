/* What the stand-in is told to do, and does at its points. */
#include "tests/fake/fake.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The value of a word ("exit=3" -> "3"), "" for one without; NULL when it was not given. */
const char *
told(const struct fake *f, const char *word)
{
	size_t n = strlen(word);

	for (int i = 0; i < f->n_words; i++)
		if (strncmp(f->words[i], word, n) == 0 &&
			(!f->words[i][n] || f->words[i][n] == '='))
			return f->words[i][n] ? f->words[i] + n + 1 : "";
	return NULL;
}

void
tell(struct fake *f, const char *text, const char *separators)
{
	char *copy = strdup(text), *rest = copy, *word;

	while ((word = strsep(&rest, separators)))
		if (*word && *word != '#' && f->n_words < WORDS_MAX)
			f->words[f->n_words++] = strdup(word);
	free(copy);
}

void __attribute__((noreturn)) leave(struct fake *f, int code)
{
	if (f->pidfile)
		unlink(f->pidfile);
	exit(code);
}

/* Does what was told for this point. Returns false when its own work is not to be done. */
bool
reach(struct fake *f, const char *point)
{
	size_t n = strlen(point);

	for (int i = 0; i < f->n_words; i++) {
		const char *deed = f->words[i] + 3 + n + 1;

		if (strncmp(f->words[i], "at=", 3) != 0 ||
			strncmp(f->words[i] + 3, point, n) != 0 || f->words[i][3 + n] != ':')
			continue;
		if (strcmp(deed, "exit") == 0) {
			fprintf(stderr, "fake_qemu: told to exit at %s\n", point);
			leave(f, 1);
		} else if (strcmp(deed, "crash") == 0) {
			fprintf(stderr, "fake_qemu: told to crash at %s\n", point);
			signal(SIGSEGV, SIG_DFL);
			raise(SIGSEGV);
		} else if (strcmp(deed, "garbage") == 0) {
			fake_say(f, "\001\002 this is no JSON {{{");
		} else if (strcmp(deed, "close") == 0) {
			fake_drop_client(f);
		} else if (strcmp(deed, "sleep") == 0) {
			f->words[i] = "slept"; /* once */
			fprintf(stderr, "fake_qemu: sleeps at %s\n", point);
			sleep(2);
			return true;
		} else if (strcmp(deed, "mute") == 0) {
			f->mute = true;
		}
		return false;
	}
	return true;
}
