/* The commands: what each is called, takes and does. Adding one is a row here and a handler. */
#include "client/command.h"

const struct opt global_options[] = {
	{"socket", 0, OPT_VALUE, "PATH", "the daemon's socket"},
	{"host", 0, OPT_VALUE, "[USER@]HOST[:PORT]",
		"the daemon of another machine, over SSH ($QEMU_HOST); --socket is a path there"},
	{"json", 0, OPT_FLAG, NULL, "print JSON, as the daemon gives it"},
	{"quiet", 'q', OPT_FLAG, NULL, "no notes on stderr, only errors"},
	{"verbose", 'v', OPT_FLAG, NULL, "tell on stderr what is done and how"},
	{"timeout", 0, OPT_VALUE, "SECONDS",
		"give up after this long, with exit code 124; 0 = never"},
	{"help", 'h', OPT_FLAG, NULL, "explain the program or the command"},
	{"version", 'V', OPT_FLAG, NULL, "print the version"},
	{NULL},
};

#define OPT_ALL \
	{ \
		"all", 0, OPT_FLAG, NULL, "all guests that it applies to" \
	}

static const struct opt create_options[] = {
	{"boot", 0, OPT_VALUE, "FILE", "boot image (qcow2 or raw)"},
	{"kernel", 0, OPT_VALUE, "FILE", "kernel to boot directly"},
	{"initrd", 0, OPT_VALUE, "FILE", "its initial RAM disk"},
	{"append", 0, OPT_VALUE, "STRING", "its command line"},
	{"cloud-image", 0, OPT_VALUE, "FILE",
		"a distribution's qcow2 image: an overlay of it boots, and lets --ssh-key in"},
	{"box", 0, OPT_VALUE, "FILE", "a vagrant box for libvirt: unpacked to boot.qcow2"},
	{"disk", 0, OPT_VALUE, "SIZE", "with --cloud-image: how large the guest's disk is"},
	{"ssh-key", 0, OPT_VALUE, "FILE",
		"private key that the guest lets in; with --cloud-image its public half will do"},
	{"user", 0, OPT_VALUE, "NAME", "whom SSH logs in as (root; of a box: vagrant)"},
	{"memory", 0, OPT_VALUE, "SIZE", "such as 512M or 2G"},
	{"cpus", 0, OPT_VALUE, "N", "number of processors"},
	{"device", 0, OPT_VALUE, "TYPE[,KEY=VALUE…]",
		"an emulated device: ocssd, nvme or zns; ids default to nvme0, nvme1, …"},
	{"set", 0, OPT_VALUE, "KEY=VALUE", "any key of guest.json, such as ssh.user=fedora"},
	{NULL},
};

static const struct opt delete_options[] = {
	{"yes", 'y', OPT_FLAG, NULL, "do not ask"},
	{NULL},
};

static const struct opt device_options[] = {
	{"yes", 'y', OPT_FLAG, NULL, "format: do not ask"},
	{"write", 0, OPT_VALUE, "ADDRESS[,percent=N]", "inject: writes there fail"},
	{"reset", 0, OPT_VALUE, "ADDRESS[,percent=N]", "inject: resets of these chunks fail"},
	{"chunk", 0, OPT_VALUE, "ADDRESS,state=STATE[,…]", "inject: the state of chunks"},
	{"clear", 0, OPT_FLAG, NULL, "inject: without the rules that there were"},
	{NULL},
};

static const struct opt import_options[] = {
	{"dry-run", 'n', OPT_FLAG, NULL, "only say what would become of each variable"},
	{NULL},
};

static const struct opt argv_options[] = {
	{"explain", 0, OPT_FLAG, NULL, "an option a line, and which key or default made it"},
	{NULL},
};

static const struct opt start_options[] = {
	OPT_ALL,
	{"wait", 0, OPT_MAYBE, "ssh|running", "wait until SSH answers, or until it runs"},
	{"console", 0, OPT_FLAG, NULL, "attach to the console, from the first line of the boot on"},
	{"paused", 0, OPT_FLAG, NULL, "do not let the processors run yet; see 'resume'"},
	{NULL},
};

static const struct opt stop_options[] = {
	OPT_ALL,
	{"force-after", 0, OPT_VALUE, "SECONDS",
		"kill a guest that has not powered off by then (60); 0 = at once"},
	{NULL},
};

static const struct opt restart_options[] = {
	OPT_ALL,
	{"force-after", 0, OPT_VALUE, "SECONDS", "as in 'stop' (60)"},
	{"wait", 0, OPT_MAYBE, "ssh|running", "as in 'start'"},
	{NULL},
};

static const struct opt all_options[] = {
	OPT_ALL,
	{NULL},
};

static const struct opt wait_options[] = {
	{"for", 0, OPT_VALUE, "running|stopped|ssh|console=REGEX", "what to wait for"},
	{NULL},
};

static const struct opt console_options[] = {
	{"read-only", 'r', OPT_FLAG, NULL, "only watch"},
	{"force", 'f', OPT_FLAG, NULL, "take the pen from whoever writes now; they are told"},
	{"join", 'j', OPT_FLAG, NULL, "write together with whoever writes now"},
	{"from", 0, OPT_VALUE, "start|end|BYTES|-LINES",
		"where to begin: the run's first byte, now (the default), an offset, lines back"},
	{"escape", 'e', OPT_VALUE, "CHAR|none", "the escape key, as '^]' (the default) or '~'"},
	{NULL},
};

static const struct opt logs_options[] = {
	{"follow", 'f', OPT_FLAG, NULL, "go on until the run ends"},
	{"lines", 'n', OPT_VALUE, "LINES", "only the last LINES lines"},
	{"boot", 0, OPT_VALUE, "N", "the run of that number; 0 = the last, -1 = the one before"},
	{"since", 0, OPT_VALUE, "TIME",
		"what came since then: 10m (ago), 10:40, or 2026-11-22T10:40:05Z"},
	{"timestamps", 't', OPT_FLAG, NULL, "before each line when it came"},
	{"raw", 0, OPT_FLAG, NULL, "leave control sequences in, on a terminal too"},
	{NULL},
};

static const struct opt events_options[] = {
	{"follow", 'f', OPT_FLAG, NULL, "go on until interrupted (as without it)"},
	{"history", 0, OPT_FLAG, NULL, "who changed what until now, with what result"},
	{"lines", 'n', OPT_VALUE, "LINES", "of the history, the last LINES (100)"},
	{NULL},
};

#define OPT_STEAL(help_) \
	{ \
		"steal", 0, OPT_FLAG, NULL, help_ \
	}

static const struct opt lease_options[] = {
	{"for", 0, OPT_VALUE, "SPAN", "how long: 30m, 2h, 1d (1h, where nothing else ends it)"},
	{"while", 0, OPT_VALUE, "PID", "as long as this process of yours runs"},
	{"message", 'm', OPT_VALUE, "WHY", "what it is for: told to those who are refused"},
	{"wait", 'w', OPT_FLAG, NULL, "queue for it; see also --timeout"},
	{"reset", 0, OPT_FLAG, NULL, "at its end stop the guest and format its drives"},
	OPT_STEAL("for admins: take it from its holder, who is shown WHY"),
	{NULL},
};

static const struct opt release_options[] = {
	{"reset", 0, OPT_FLAG, NULL, "stop the guest and format its drives"},
	OPT_STEAL("for admins: give back what somebody else holds, who is shown WHY"),
	{"message", 'm', OPT_VALUE, "WHY", "why it is taken from its holder"},
	{NULL},
};

static const struct opt share_options[] = {
	{"add", 'a', OPT_VALUE, "USER|@GROUP", "let them operate the guest"},
	{"remove", 'r', OPT_VALUE, "USER|@GROUP", "shut them out again"},
	{NULL},
};

static const struct opt top_options[] = {
	{"interval", 'd', OPT_VALUE, "SECONDS", "time between two looks (1)"},
	{"count", 'n', OPT_VALUE, "N", "end after N looks"},
	{"sort", 's', OPT_VALUE, "COLUMN",
		"by the heading of a column, such as name or mem (cpu%)"},
	{"reverse", 'r', OPT_FLAG, NULL, "the other way round"},
	{"batch", 'b', OPT_FLAG, NULL, "print tables, on a terminal too"},
	{NULL},
};

static const struct opt host_options[] = {
	{"force-after", 0, OPT_VALUE, "SECONDS", "as in 'stop' (60)"},
	{NULL},
};

#define OPT_NEW_HOST_KEY \
	{ \
		"new-host-key", 0, OPT_FLAG, NULL, \
			"take the guest's SSH host key of now in place of the pinned one" \
	}

static const struct opt exec_options[] = {
	{"tty", 't', OPT_FLAG, NULL, "with a terminal, as in 'shell'"},
	{"no-tty", 'T', OPT_FLAG, NULL, "without one (as without either)"},
	{"env", 'e', OPT_VALUE, "NAME=VALUE", "set in the command's environment; NAME alone: ours"},
	{"script", 's', OPT_VALUE, "FILE",
		"run this file of ours in the guest, with COMMAND… as its arguments; - = stdin"},
	{"all", 0, OPT_FLAG, NULL, "in all guests that run"},
	{"parallel", 'p', OPT_MAYBE, "N", "in several guests at once: N at a time (16)"},
	OPT_NEW_HOST_KEY,
	{NULL},
};

static const struct opt shell_options[] = {
	{"tty", 't', OPT_FLAG, NULL, "with a terminal, even when stdin is none"},
	{"no-tty", 'T', OPT_FLAG, NULL, "without one, even when stdin is a terminal"},
	{"env", 'e', OPT_VALUE, "NAME=VALUE", "set in the shell's environment; NAME alone: ours"},
	OPT_NEW_HOST_KEY,
	{NULL},
};

static const struct opt copy_options[] = {
	{"recursive", 'r', OPT_FLAG, NULL, "folders with all that is in them"},
	OPT_NEW_HOST_KEY,
	{NULL},
};

static const struct opt forward_options[] = {
	OPT_NEW_HOST_KEY,
	{NULL},
};

#define GUESTS "GUEST…|GLOB…|--all"

#define GLOB_NOTE \
	"Several guests are worked on at once. Each failure is printed; the exit code is that of " \
	"the first guest named that failed. A glob that matches none: exit 66.\n"

/* In "details" a newline ends a paragraph: help.c breaks the lines. */
const struct command commands[] = {
	{"list", "Guests", "[GLOB…]", "the guests of this machine, one a line",
		"With --json an array. No guest at all: exit 0. With '--host a,b,c' those of "
		"all three, and which host did not answer.\n\n"
		"Example: cijqemuctl list 'emu*'\n",
		.flags = CMD_HOSTS, .max_args = CMD_ANY, .run = cmd_list},
	{"show", "Guests", "GUEST", "everything known about a guest",
		"Example: cijqemuctl show emujoe --json | jq .ssh.port\n", .flags = CMD_GUEST,
		.run = cmd_show},
	{"status", "Guests", "GUEST", "one line, and an exit code for scripts",
		"Example: cijqemuctl status emujoe || cijqemuctl start emujoe\n\n"
		"Exit codes: 0 running, 3 anything else, 4 no such guest, 69 no daemon.\n",
		.flags = CMD_GUEST, .run = cmd_status},
	{"create", "Guests",
		"GUEST [--boot FILE] [--kernel FILE] [--initrd FILE] [--append STRING] "
		"[--ssh-key FILE] [--user NAME] [--memory SIZE] [--cpus N] [--device "
		"TYPE[,KEY=VALUE…]]… "
		"[--set KEY=VALUE]…",
		"define a new guest",
		"Files are used where they are, by their full path. VALUE is JSON where it parses "
		"as JSON, else a string; KEY is dotted, with arrays by index or device id.\n\n"
		"Example: cijqemuctl create emujoe --boot ./boot.qcow2 --memory 2G \\\n"
		"             --device ocssd,num_grp=2,num_pu=4 --device nvme,size=8G \\\n"
		"             --set devices.nvme0.mdts=7\n"
		"         cijqemuctl create web --cloud-image debian-12-genericcloud-amd64.qcow2 "
		"\\\n"
		"             --ssh-key ~/.ssh/id_ed25519.pub --disk 20G\n\n"
		"Exit codes: 65 there is one already, a bad name, a missing file; 78 a bad "
		"value.\n",
		.flags = CMD_GUEST, .options = create_options, .run = cmd_create},
	{"import", "Guests", "[GUEST] [--dry-run]",
		"define a guest by CIJOE's variables in the environment",
		"Takes the QEMU_* variables that CIJOE's target_env.sh exports (2018 and 2019 "
		"names), SSH_USER and SSH_PORT, and says of each whether it is used, and as which "
		"key of guest.json, ignored, and why, or unknown. A folder that is a guest without "
		"a guest.json gets one. Files in the guest's folder are named relative to it.\n\n"
		"Example: . ./target_env.sh && cijqemuctl import\n\n"
		"Exit codes: 65 a value that makes no sense, a missing file, or the guest has a "
		"guest.json; 78 the definition that comes out of it is not valid.\n",
		.flags = CMD_GUEST, .options = import_options, .run = cmd_import},
	{"set", "Guests", "GUEST KEY=VALUE…", "change a guest's definition",
		"Takes effect at the next start. KEY is dotted, with arrays by index or device id; "
		"VALUE is JSON where it parses as JSON, else a string; null removes the key.\n\n"
		"Example: cijqemuctl set emujoe memory=4G devices.nvme0.mdts=7 extra_args=null\n",
		.flags = CMD_GUEST, .min_args = 1, .max_args = CMD_ANY, .run = cmd_set},
	{"edit", "Guests", "GUEST", "change a guest's definition in an editor",
		"Runs $VISUAL, $EDITOR or vi on guest.json's text and sends what you changed. When "
		"it is refused you may edit again; what you wrote is never thrown away.\n\n"
		"Example: EDITOR=nano cijqemuctl edit emujoe\n",
		.flags = CMD_GUEST, .run = cmd_edit},
	{"delete", "Guests", "GUEST [--yes]", "remove a guest and its folder",
		"Asks where it is typed at a terminal, not in a script. It is no guest any more at "
		"once; the command ends when its files are gone, however many there are.\n\n"
		"Example: cijqemuctl delete emujoe --yes\n",
		.flags = CMD_GUEST, .options = delete_options, .run = cmd_delete},
	{"validate", "Guests", "[GUEST…]", "check definitions, all problems at once",
		"Prints 'GUEST: ok', or a line a problem: 'GUEST: KEY: what is wrong (the way "
		"out)'. No guest named: all are checked.\n\n"
		"Example: cijqemuctl validate emujoe\n\n"
		"Exit codes: 78 when one is not valid.\n",
		.max_args = CMD_ANY, .run = cmd_validate},
	{"argv", "Guests", "GUEST [--explain]", "the QEMU command line that would be run",
		"Example: cijqemuctl argv emujoe --explain\n", .flags = CMD_GUEST,
		.options = argv_options, .run = cmd_argv},
	{"device", "Guests", "list|plug|unplug|format|inject GUEST …",
		"the emulated drives of a guest",
		"  list GUEST                    as guest.json and as QEMU have them now\n"
		"  plug GUEST ID                 give a running guest a drive of guest.json\n"
		"  plug GUEST TYPE[,KEY=VALUE…]  the same with a new one, added to it\n"
		"  unplug GUEST ID               ask it to let go of one; guest.json keeps it\n"
		"  format GUEST ID [--yes]       make its image anew; asks on a terminal\n"
		"  inject GUEST ID [RULE…]       let writes and resets of an OCSSD fail\n\n"
		"A RULE is --write ADDRESS[,percent=N], --reset ADDRESS[,percent=N], "
		"--chunk ADDRESS,state=STATE[,wp=BLOCKS], or --clear.\n"

		"ADDRESS is grp=G,pu=P,chk=C and for --write also sec=S; each is a number, a range "
		"like 2-7, or *. STATE is free, open (with wp=BLOCKS), closed or offline. The "
		"rules "
		"given replace those of guest.json; none given applies what is there. QEMU reads "
		"them when the drive is plugged in: a running guest has it unplugged and plugged "
		"again, and you are told what it saw of that.\n"
		"A guest is started with a port for each drive and 4 to plug more into. It has 30 "
		"s "
		"to let go of one, unless --timeout says otherwise.\n\n"
		"Example: cijqemuctl device plug emujoe nvme,size=4G\n"
		"         cijqemuctl device inject emujoe nvme0 --write grp=0,pu=3,chk=0,sec=53 "
		"\\\n"
		"             --reset 'grp=0,pu=*,chk=5,percent=20'\n"
		"         cijqemuctl device format emujoe nvme0 --yes\n\n"
		"Exit codes: 1 this QEMU cannot, 75 it is in use, 78 a bad definition or another "
		"geometry than the image's, 124 the guest did not let go.\n",
		.min_args = 1, .max_args = CMD_ANY, .options = device_options, .run = cmd_device},
	{"start", "Power", GUESTS " [--wait[=ssh|running]] [--console] [--paused]", "start guests",
		"Returns when QEMU runs the guest; with --wait when SSH answers, within --timeout "
		"(300 s unless told otherwise). A guest that runs already: exit 0 and a "
		"note.\n" GLOB_NOTE "\nExample: cijqemuctl start emujoe --wait --timeout 60\n"
		"         cijqemuctl start emujoe --console\n\n"
		"Exit codes: 1 QEMU failed, 75 no memory or disk left, 78 bad definition, 124 "
		"time-out.\n",
		.flags = CMD_GUESTS, .max_args = CMD_ANY, .options = start_options,
		.run = cmd_start},
	{"stop", "Power", GUESTS " [--force-after SECONDS]",
		"power guests off, by force if need be",
		"Presses the ACPI power button, kills the guest if that did not help in time, and "
		"says which it was. A guest that is stopped already: exit 0 and a note.\n" GLOB_NOTE
		"\nExample: cijqemuctl stop --all --force-after 20\n",
		.flags = CMD_GUESTS, .max_args = CMD_ANY, .options = stop_options, .run = cmd_stop},
	{"kill", "Power", GUESTS, "end guests at once, as if the power failed",
		GLOB_NOTE "\nExample: cijqemuctl kill emujoe\n", .flags = CMD_GUESTS,
		.max_args = CMD_ANY, .options = all_options, .run = cmd_kill},
	{"restart", "Power", GUESTS " [--force-after SECONDS] [--wait[=ssh|running]]",
		"stop guests, then start them with their definition of now",
		GLOB_NOTE "\nExample: cijqemuctl restart emujoe --wait\n", .flags = CMD_GUESTS,
		.max_args = CMD_ANY, .options = restart_options, .run = cmd_restart},
	{"reset", "Power", GUESTS, "press the reset button",
		GLOB_NOTE "\nExample: cijqemuctl reset emujoe\n", .flags = CMD_GUESTS,
		.max_args = CMD_ANY, .options = all_options, .run = cmd_reset},
	{"pause", "Power", GUESTS, "stop the guests' processors",
		GLOB_NOTE "\nExample: cijqemuctl pause emujoe\n", .flags = CMD_GUESTS,
		.max_args = CMD_ANY, .options = all_options, .run = cmd_pause},
	{"resume", "Power", GUESTS, "let the guests' processors go on",
		GLOB_NOTE "\nExample: cijqemuctl resume emujoe\n", .flags = CMD_GUESTS,
		.max_args = CMD_ANY, .options = all_options, .run = cmd_resume},
	{"wait", "Power", "GUEST --for running|stopped|ssh|console=REGEX [--timeout SECONDS]",
		"wait until something is so",
		"Waits 300 s unless told otherwise; --timeout 0 = for ever. console=REGEX "
		"(extended, as in 'grep -E') looks at each line that the run has printed since its "
		"start, the unfinished last one too, and prints the first that matches; on a "
		"stopped guest it waits for it to run first.\n\n"
		"Example: cijqemuctl wait emujoe --for ssh --timeout 120\n"
		"         cijqemuctl wait emujoe --for 'console=login: *$'\n\n"
		"Exit codes: 124 time-out, with what was last seen; 1 the guest stopped "
		"meanwhile.\n",
		.flags = CMD_GUEST, .options = wait_options, .run = cmd_wait},
	{"console", "Console",
		"GUEST|GLOB [--read-only|--force|--join] [--from WHERE] [-e CHAR|none]",
		"the guest's serial console",
		"Any number of people may watch; the first writes. Keys, behind the escape key ^] "
		"(Ctrl and ]):\n"
		"  .  detach             f  take the pen (force)\n"
		"  ?  help               r  only read\n"
		"  ^] send ^] itself     w  who is attached\n\n"
		"When stdin is no terminal all of it is sent as it is, without an escape key; one "
		"second of silence behind its end detaches. Empty input and --read-only watch "
		"until the run ends. When the daemon is restarted the console is attached again "
		"at the same byte. Of several guests each line says whose it is.\n\n"
		"Example: cijqemuctl console emujoe --from -20\n"
		"         echo 'dmesg | tail' | cijqemuctl console emujoe\n"
		"         echo uptime | cijqemuctl console 'emu*'\n",
		.flags = CMD_GUEST | CMD_GLOB, .options = console_options, .run = cmd_console},
	{"logs", "Console",
		"GUEST [-f] [-n LINES] [--boot N] [--since TIME] [--timestamps] [--raw]",
		"what the guest has printed on its console",
		"On a terminal control sequences other than colours are left out unless --raw is "
		"given. Times are those at which the daemon saw the bytes, to some 10 ms, counted "
		"back "
		"from now by a clock that never jumps: a change of the host's clock bends none. "
		"What "
		"log.limit or a full disk has taken is told on stderr. With --json each line is an "
		"object: when it came, its first byte's offset, and its text.\n\n"
		"Example: cijqemuctl logs emujoe -n 50 -f\n"
		"         cijqemuctl logs emujoe --since 10m --timestamps\n"
		"         cijqemuctl logs emujoe --boot -1 > last-crash.txt\n",
		.flags = CMD_GUEST, .options = logs_options, .run = cmd_logs},
	{"monitor", "QEMU", "GUEST|GLOB [COMMAND…]", "QEMU's human monitor",
		"Without COMMAND the lines of stdin are run, one after the other; on a terminal "
		"there is a prompt, with a history and completion by the tabulator, and ^D leaves "
		"('quit' would end the guest). Of several guests each line says whose it is. With "
		"$QEMU_GUEST_NAME instead of GUEST, put '--' before COMMAND.\n\n"
		"Example: cijqemuctl monitor emujoe info registers -a\n"
		"         echo 'info block' | cijqemuctl monitor emujoe\n"
		"         cijqemuctl monitor 'emu*' info status\n\n"
		"Exit codes: 1 QEMU's own error, 75 it does not run, 77 not allowed.\n",
		.flags = CMD_GUEST | CMD_GLOB | CMD_WORDS, .max_args = CMD_ANY, .run = cmd_monitor},
	{"qmp", "QEMU", "GUEST|GLOB [JSON|COMMAND [KEY=VALUE…]]", "QEMU's machine protocol",
		"Runs one command, given as {\"execute\": …, \"arguments\": …} or by its name "
		"and arguments, and prints what it returns; without one, each line of stdin, with "
		"an answer a line. On a terminal there is a prompt, and the guest's events are "
		"shown as they come; ^D leaves. --json: the answer on one line.\n\n"
		"Example: cijqemuctl qmp emujoe query-status\n"
		"         cijqemuctl qmp emujoe '{\"execute\": \"query-block\"}'\n"
		"         cijqemuctl qmp emujoe device_del id=nvme1\n\n"
		"Exit codes: 1 QEMU's own error, 65 not JSON, 77 not allowed.\n",
		.flags = CMD_GUEST | CMD_GLOB, .max_args = CMD_ANY, .run = cmd_qmp},
	{"exec", "Inside",
		"GUEST -- COMMAND… | GUEST… [--parallel[=N]] -- COMMAND… | GUEST --script FILE "
		"[-- ARGUMENT…]",
		"run a command in the guest, over SSH",
		"A single word is a command line for the guest's shell. Of several each arrives as "
		"it is: blanks, quotes and '*' in them are safe. stdin, stdout and stderr are "
		"passed as they are; ^C is passed on as a signal. A guest that is still booting is "
		"waited for: --timeout (30 s) is for all until the command runs.\n"
		"Keys are tried in this order: the guest's own (ssh.key), ssh-agent's, those in "
		"~/.ssh; then a password is asked for, on a terminal. The guest's host key is "
		"pinned in its folder when its boot image is first met; another one is refused.\n"
		"In several guests (names, globs in quotes, --all) each line is printed behind its "
		"guest's name, stdin is empty, and the exit code is that of the first named that "
		"failed. --json: an object a guest, with exit_code, stdout and stderr.\n\n"
		"Example: cijqemuctl exec emujoe -- nvme list\n"
		"         cijqemuctl exec emujoe -- 'dmesg | tail' > tail.txt\n"
		"         tar c src | cijqemuctl exec emujoe -- tar x -C /root\n"
		"         cijqemuctl exec 'emu*' --parallel -- uname -r\n"
		"         cijqemuctl exec emujoe --script ./bench.sh -- --quick\n\n"
		"Exit codes: the command's own; 128+N when signal N ended it; 255 for every "
		"failure that is not the command's.\n",
		.flags = CMD_GUEST | CMD_WORDS | CMD_SSH_CODES | CMD_MANY, .max_args = CMD_ANY,
		.options = exec_options, .run = cmd_exec},
	{"shell", "Inside", "GUEST", "a login shell in the guest, over SSH",
		"At the start of a line '~.' ends the connection, should the guest hang. When "
		"stdin is no terminal the shell reads its commands from there.\n\n"
		"Example: cijqemuctl shell emujoe\n\n"
		"Exit codes: the shell's own; 255 for every failure that is not the shell's.\n",
		.flags = CMD_GUEST | CMD_SSH_CODES, .options = shell_options, .run = cmd_shell},
	{"push", "Inside", "GUEST [-r] SOURCE… DESTINATION", "copy files into the guest",
		"As cp does it: into DESTINATION where that is a folder, else under that name; "
		"several SOURCEs need a folder. A relative DESTINATION starts at the user's home. "
		"Modes and times are kept, holes stay holes where the guest can, links within a "
		"folder stay links. Each file gets its name when it is whole: a cut connection "
		"leaves none that only looks so. By SFTP, or where the guest has none through tar "
		"in the guest (-v tells which). --json: an event a line.\n\n"
		"Example: cijqemuctl push emujoe ./fio.job /root/\n"
		"         cijqemuctl push emujoe -r ./tests /opt/tests\n\n"
		"Exit codes: 65 a SOURCE that is not there or is a folder without -r; 124 no "
		"answer in time; 130 interrupted.\n",
		.flags = CMD_GUEST, .min_args = 2, .max_args = CMD_ANY, .options = copy_options,
		.run = cmd_push},
	{"pull", "Inside", "GUEST [-r] SOURCE… DESTINATION", "copy files out of the guest",
		"As 'push', the other way round. SOURCEs are names, not globs.\n\n"
		"Example: cijqemuctl pull emujoe /var/log/messages .\n"
		"         cijqemuctl pull emujoe -r results ./results-1\n",
		.flags = CMD_GUEST, .min_args = 2, .max_args = CMD_ANY, .options = copy_options,
		.run = cmd_pull},
	{"forward", "Inside", "GUEST [ADDRESS:]PORT:GUESTPORT…",
		"reach the guest's TCP ports from here, until interrupted",
		"Listens on ADDRESS (127.0.0.1) and PORT (0: any that is free; it is printed) and "
		"passes each connection to GUESTPORT in the guest. For one that lasts as long as "
		"the guest, see \"forward\" in guest.json.\n\n"
		"Example: cijqemuctl forward emujoe 8080:80\n"
		"         cijqemuctl --host lab7 forward emujoe 4420:4420\n",
		.flags = CMD_GUEST, .min_args = 1, .max_args = CMD_ANY, .options = forward_options,
		.run = cmd_forward},
	{"env", "Inside", "GUEST", "the guest's address and drives as 'export' lines",
		"SSH_HOST, SSH_PORT, SSH_USER, NVME_DEV_NAME and CIJOE's QEMU_* variables, for a "
		"shell and for CIJOE's target_env.sh. --json: an object.\n\n"
		"Example: eval \"$(cijqemuctl env emujoe)\"\n",
		.flags = CMD_GUEST, .run = cmd_env},
	{"ssh-config", "Inside", "GUEST", "an ssh_config block for ssh, scp, rsync and editors",
		"Example: cijqemuctl ssh-config emujoe >> ~/.ssh/config; ssh emujoe\n"
		"         cijqemuctl ssh-config emujoe > joe.conf; scp -F joe.conf a.fio emujoe:\n",
		.flags = CMD_GUEST, .run = cmd_ssh_config},
	{"kernel", "Inside", "GUEST BZIMAGE", "give the guest another kernel",
		"Copies it into the guest's folder as bzImage, whole or not at all; the next start "
		"boots it.\n\n"
		"Example: cijqemuctl kernel emujoe arch/x86/boot/bzImage\n\n"
		"Exit codes: 65 it is no bzImage; 77 the guest is not yours.\n",
		.flags = CMD_GUEST, .min_args = 1, .max_args = 1, .run = cmd_kernel},
	{"lease", "Sharing",
		"[GUEST [--for SPAN] [--while PID] [-m WHY] [--wait] [--reset] [--steal] "
		"[-- COMMAND…]]",
		"have a guest to yourself for a while",
		"Until the lease ends only you operate the guest; others still see it. With a "
		"COMMAND the lease is its own and ends with it. Leasing what you hold already "
		"sets its end anew. --wait queues until it is your turn; ^C leaves the queue. "
		"Without a guest: prints all leases.\n\n"
		"Example: cijqemuctl lease emujoe --for 2h -m 'bisecting'\n"
		"         cijqemuctl lease emujoe --wait -- make test\n\n"
		"Exit codes: 75 somebody else holds it; 124 time-out; with a COMMAND its own.\n",
		.flags = CMD_MAYBE_GUEST | CMD_WORDS, .max_args = CMD_ANY, .options = lease_options,
		.run = cmd_lease},
	{"release", "Sharing", "GUEST [--reset] [--steal -m WHY]", "give a leased guest back",
		"What is not leased: exit 0 and a note.\n\n"
		"Example: cijqemuctl release emujoe --reset\n\n"
		"Exit codes: 75 somebody else holds it.\n",
		.flags = CMD_GUEST, .options = release_options, .run = cmd_release},
	{"who", "Sharing", "[GUEST]", "who is at a guest, and since when they are idle",
		"Viewers and writers of the console, clients of the monitors, the holder of the "
		"lease and those who wait for it. Without a guest: of all guests.\n\n"
		"Example: cijqemuctl who emujoe\n",
		.flags = CMD_MAYBE_GUEST, .run = cmd_who},
	{"share", "Sharing", "GUEST [--add USER|@GROUP]… [--remove USER|@GROUP]…",
		"who else may operate a guest",
		"Those named may start and stop it, type on its console and log in; only its owner "
		"and admins change or delete it. Takes effect at once. A number is a uid, behind @ "
		"a gid. Without an option: prints them, one a line.\n\n"
		"Example: cijqemuctl share emujoe --add anna --add @storage\n",
		.flags = CMD_GUEST, .options = share_options, .run = cmd_share},
	{"events", "Other", "[-f] [--history [-n LINES]] [GUEST|GLOB…]",
		"what happens, one event a line, until interrupted",
		"With --json each line is the event as the daemon gives it. With --history: who "
		"changed what, when, with what result, and what was refused; what was typed is not "
		"recorded.\n\n"
		"Example: cijqemuctl events 'emu*' --json | jq -r .event\n"
		"         cijqemuctl events --history emujoe -n 20\n",
		.max_args = CMD_ANY, .options = events_options, .run = cmd_events},
	{"doctor", "Other", "", "what works on this machine and what does not",
		"A line a finding: ok, note or fail, and the command that mends it. Checks the "
		"daemon, its unit and sockets, your groups, the guests' folders and keys, the QEMU "
		"binaries with their drives, KVM, memory, disk, the daemon's limits, and CIJOE's "
		"variables. With no daemon: what can be seen without one. --json: an array of "
		"objects with check, thing, level, text and fix.\n\n"
		"Example: cijqemuctl doctor\n"
		"         cijqemuctl doctor --json | jq -r '.[] | select(.level == \"fail\") | "
		".fix'\n\n"
		"Exit codes: 1 when something fails.\n",
		.run = cmd_doctor},
	{"top", "Other", "[-d SECONDS] [-n N] [-s COLUMN] [GLOB…]",
		"what the guests do, as they do it",
		"A live screen of state, CPU, memory, drive traffic, console output, boot time, "
		"viewers and lease; ? shows the keys: they sort, filter and open a console. Where "
		"stdout is no terminal one table is printed, after --interval, or -n of them; with "
		"--json an array a line.\n\n"
		"Example: cijqemuctl top 'emu*'\n"
		"         cijqemuctl top -n 10 --json | jq '.[].cpu_percent'\n",
		.max_args = CMD_ANY, .options = top_options, .run = cmd_top},
	{"host", "Other", "up|down [--force-after SECONDS]",
		"start the guests that come with the host; power all off before it goes",
		"What cijqemu-guests.service calls. 'up' starts those with autostart, a few at a "
		"time. 'down' presses every power button, kills what is left after --force-after "
		"(60 s), and keeps 'host-shutdown' as the reason. For admins.\n\n"
		"Example: cijqemuctl host down --force-after 30\n",
		.min_args = 1, .max_args = 1, .options = host_options, .run = cmd_host},
	{"help", "Other", "[COMMAND]", "this list, or how one command is used",
		"Example: cijqemuctl help console\n", .flags = CMD_HERE, .max_args = 1,
		.run = cmd_help},
	/* For the shells' completion scripts alone: no group, not in the list. */
	{"_complete", NULL, "-- [WORD…]", "what may stand where the last WORD does", NULL,
		.flags = CMD_HERE, .max_args = CMD_ANY, .run = cmd_complete},
	{NULL},
};
