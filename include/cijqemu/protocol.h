/* What both ends of the control socket agree on: one JSON object a line, shaped like QMP. */
#ifndef CIJQEMU_PROTOCOL_H
#define CIJQEMU_PROTOCOL_H

#define CIJ_VERSION "0.1.0"
#define CIJ_API 1

/* Longest request line, its newline not counted: the largest guest.json in use is under 8 KiB. */
#define CIJ_REQUEST_LINE_MAX (64 * 1024)

/* Deepest nesting of a request: guest.json needs 6. */
#define CIJ_REQUEST_DEPTH_MAX 16

/* Longest reply line that a client accepts: 'query-qmp-schema' is about 200 KiB, 1000 guests 700.
 */
#define CIJ_REPLY_LINE_MAX (64 * 1024 * 1024)
#define CIJ_REPLY_DEPTH_MAX 64

/* Guest names: [A-Za-z0-9][A-Za-z0-9._-]{0,62} */
#define CIJ_GUEST_NAME_MAX 63

#define CIJ_SOCKET_NAME "cijqemud.sock"
#define CIJ_SOCKET_RO_NAME "cijqemud-ro.sock" /* for everybody, to look only */
#define CIJ_SYSTEM_RUN_DIR "/run/cijqemu"

/* Defaults of requests, in seconds. */
#define CIJ_WAIT_SECONDS 300
#define CIJ_FORCE_AFTER_SECONDS 60

#endif
