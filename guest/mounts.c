// SPDX-License-Identifier: GPL-2.0-only
/* The system around the program: kernel file systems, devices, loopback network. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest.h"

/* ---- where the root is a folder of the host ---- */

#define LAYERS "/run"
#define NEW LAYERS "/new"
#define SHARED LAYERS "/shared"

static void make_layers(void)
{
	static const char *const folders[] = { LAYERS "/upper", LAYERS "/work", NEW, SHARED };
	size_t k;

	mkdir(LAYERS, 0755);
	if (mount("tmpfs", LAYERS, "tmpfs", 0, "mode=0755"))
		fail("cannot mount tmpfs on " LAYERS ": %s", strerror(errno));
	for (k = 0; k < sizeof(folders) / sizeof(folders[0]); k++)
		if (mkdir(folders[k], 0755))
			fail("cannot make %s: %s", folders[k], strerror(errno));
}

/*
 * `lower` is the host's, read-only.  Put memory over it: what the program writes stays in this
 * machine and goes with it.  Nothing of the host's is hidden but /run, whose sockets and locks are
 * of processes that are not here.
 */
static void lay_memory_over(const char *lower)
{
	char options[256];

	snprintf(options, sizeof(options),
		 "lowerdir=%s,upperdir=" LAYERS "/upper,workdir=" LAYERS "/work,xino=off", lower);
	if (mount("overlay", NEW, "overlay", 0, options))
		fail("cannot mount an overlay over the host's root: %s", strerror(errno));
	mkdir(NEW "/run", 0755); /* images may come without */
	if (mount("tmpfs", NEW "/run", "tmpfs", 0, "mode=0755"))
		fail("cannot mount tmpfs on /run: %s", strerror(errno));
}

static void enter_new_root(void)
{
	if (chdir(NEW) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		fail("cannot change the root: %s", strerror(errno));
}

/* The root is the host's already. */
void change_root(void)
{
	make_layers();
	lay_memory_over("/");
	enter_new_root();
}

/*
 * The root becomes the folder that the host shares by the name `tag`.  Our own folder, of the
 * initramfs, goes with us: `place` is where it is then.  The host promises not to change the
 * folder meanwhile, so what was read once may be kept (cache=loose).
 */
void change_root_to_share(const char *tag, const char *folder, const char *place)
{
	char inside[256];

	make_layers();
	if (mount(tag, SHARED, "9p", MS_RDONLY,
		  "trans=virtio,version=9p2000.L,access=any,cache=loose,msize=262144"))
		fail("cannot mount the folder that is to be the root: %s", strerror(errno));
	lay_memory_over(SHARED);
	snprintf(inside, sizeof(inside), NEW "%s", place);
	if (mkdir(inside, 0700) || mount(folder, inside, NULL, MS_BIND, NULL))
		fail("cannot take our folder along: %s", strerror(errno));
	enter_new_root();
}

/* ---- the system ---- */

static void mount_at(const char *type, const char *folder, unsigned long flags, const char *options)
{
	mkdir(folder, 0755);
	if (mount(type, folder, type, flags, options))
		fail("cannot mount %s on %s: %s", type, folder, strerror(errno));
}

static void mount_devices(void)
{
	mount_at("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
	mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
}

static void link_devices(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },	      { "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" }, { "/proc/self/fd/2", "/dev/stderr" },
		{ "pts/ptmx", "/dev/ptmx" },
	};
	size_t k;

	unlink("/dev/ptmx");
	for (k = 0; k < sizeof(links) / sizeof(links[0]); k++)
		if (symlink(links[k][0], links[k][1]))
			warn("no %s: %s", links[k][1], strerror(errno));
}

/*
 * Nothing is mounted on /tmp and /run: the root is memory too, and the program or its files may
 * lie there.
 */
void set_up_system(void)
{
	static const char *const folders[] = { "/tmp", "/var/tmp" };
	size_t k;

	umask(0);
	mkdir("/", 0755);
	mount_at("proc", "/proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount_at("sysfs", "/sys", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL); /* where the kernel has them */
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	mount_devices();
	link_devices();
	for (k = 0; k < sizeof(folders) / sizeof(folders[0]); k++) {
		make_folders(folders[k]);
		chmod(folders[k], 01777);
	}
	mkdir("/run", 0755);
	umask(022);
	if (sethostname("kbridge", 7))
		warn("cannot set the host name: %s", strerror(errno));
}

void set_up_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return; /* a kernel without a network */
	if (!ioctl(s, SIOCGIFFLAGS, &request)) {
		request.ifr_flags |= IFF_UP;
		if (ioctl(s, SIOCSIFFLAGS, &request))
			warn("cannot bring the loopback network up: %s", strerror(errno));
	}
	close(s);
}
