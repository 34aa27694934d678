/* A folder of its own for each test of a group: begin() and end() are its setup and teardown. */
#ifndef TESTS_UNIT_FOLDER_H
#define TESTS_UNIT_FOLDER_H

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char *top;
static int dir = -1;

static int
begin(void **state)
{
	top = folder_make();
	dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

static int
end(void **state)
{
	close(dir);
	folder_remove(top);
	return 0;
}

#endif
