/*
 * Logging: one line a fact, written where the fact is known. To stderr, or into the journal with
 * fields where stderr is the journal's. A line that begins "guest 'NAME': " is about that guest and
 * carries CIJQEMU_GUEST=NAME.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdbool.h>
#include <syslog.h>

/*
 * MESSAGE_ID= of what one may want to be told of: 'journalctl MESSAGE_ID=…'. Drawn once; their
 * numbers never change their meaning.
 */
#define LOG_ID_READY "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c01" /* the daemon answers; guests counted */
#define LOG_ID_RUNNING "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c02" /* a guest was started */
#define LOG_ID_STOPPED "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c03" /* a guest ended in good order */
#define LOG_ID_FAILED "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c04" /* crashed, panicked, did not start */
#define LOG_ID_ADOPTED "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c05" /* taken back from an earlier daemon */
#define LOG_ID_LOST "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c06" /* ended while no daemon watched */
#define LOG_ID_HUNG "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c07" /* its monitor does not answer */
#define LOG_ID_ANSWERS "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c08" /* it answers again */
#define LOG_ID_RESTART "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c09" /* will be started again by itself */
#define LOG_ID_GAVE_UP "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c0a" /* will not be, after many failures */
#define LOG_ID_RESET_LOOP "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c0b" /* a guest resets over and over */
#define LOG_ID_FOLDER "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c0c" /* renamed or removed while it runs */
#define LOG_ID_IO_ERROR "4d7c0a3c9f8e4c5fa1e6d1d0b54a0c0d" /* paused: a drive cannot be written */

/* Shows debug lines from now on when @verbose. */
void log_init(bool verbose);

/* Control characters in what is logged become '?': names and QEMU's words come from users. */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* As the others, with a LOG_ID_… and the level of syslog(3). */
void log_id(const char *id, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
