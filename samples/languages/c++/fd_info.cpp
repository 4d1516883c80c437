// SPDX-License-Identifier: GPL-2.0-only
// samples/fd_info in C++: asks the kernel for the position of a file.
#include <cstdio>
#include <iostream>
#include <memory>
#include <system_error>
#include <unistd.h>

extern "C" {
#include <fd_info_kmod.h>
}

static struct fd_info kernel_info(int fd)
{
	struct fd_info info;

	if (const int error = fd_info(fd, &info))
		throw std::system_error(-error, std::generic_category(), "fd_info");
	return info;
}

int main()
{
	const std::unique_ptr<FILE, decltype(&std::fclose)> file(std::tmpfile(), std::fclose);

	if (!file || std::fputs("Hello, kernel!\n", file.get()) < 0 || std::fflush(file.get())) {
		std::perror("tmpfile");
		return 1;
	}
	const int fd = fileno(file.get());
	const auto info = kernel_info(fd);

	std::cout << "the kernel says: pid " << info.pid << " (getpid() says " << getpid()
		  << "), file position " << info.position << " of fd " << fd << '\n';
	return info.pid == getpid() && info.position == 15 ? 0 : 1;
}
