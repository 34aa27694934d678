#include "client/ssh_ask.h"

#include <fcntl.h>
#include <string.h>

#include "client/clock.h"
#include "client/out.h"
#include "client/term.h"
#include "proto/text.h"

/* Reads one line; its newline is cut off. -1: there was none. */
static int
read_line(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		ssize_t n = read(fd, buf + len, 1);

		if (n <= 0)
			return -1;
		if (buf[len] == '\n')
			break;
		len++;
	}
	buf[len] = '\0';
	return 0;
}

int
ssh_ask(struct ssh_link *l, const char *question, bool echo, char *buf, size_t size)
{
	_cleanup_close_ int fd = l->no_prompt ? -1 : open("/dev/tty", O_RDWR | O_CLOEXEC);
	struct cij_error unheard = CIJ_ERROR_INIT;
	int64_t began = clock_ms();
	char clean[512];
	int rc;

	if (fd < 0)
		return -1;
	if (l->asking)
		l->asking(l->asking_arg);
	out_progress_end();
	cij_text_clean(question, clean, sizeof(clean));
	/* Before the question: whoever answers at once is not shown to the room. */
	if (!echo && term_hide(fd, &unheard) < 0)
		return -1;
	rc = out_write(fd, clean, strlen(clean));
	if (rc == 0)
		rc = read_line(fd, buf, size);
	term_restore();
	if (l->deadline != CLOCK_NEVER)
		l->deadline += clock_ms() - began;
	return rc;
}
