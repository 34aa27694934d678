/*
 * kexec KERNEL INITRD COMMAND_LINE: a second later the guest that runs this goes on as that kernel,
 * by kexec_file_load(2). Small and static, for a guest that has neither kexec-tools nor libraries.
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	int kernel = argc == 4 ? open(argv[1], O_RDONLY) : -1;
	int initrd = argc == 4 ? open(argv[2], O_RDONLY) : -1;

	if (kernel < 0 || initrd < 0 ||
		syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], 0UL) <
			0) {
		perror("kexec");
		return 1;
	}
	if (fork() != 0)
		return 0; /* whoever called hears that it is loaded */
	setsid();
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	sleep(1);
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return 1;
}
