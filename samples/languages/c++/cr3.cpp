// SPDX-License-Identifier: GPL-2.0-only
// samples/cr3 in C++: prints CR3, and the privilege level on both sides.
#include <iostream>

extern "C" {
#include <cr3_kmod.h>
}

int main()
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	const auto app = cs & 3, kmod = privilege_level();
	const auto value = cr3();

	std::cout << "privilege level: app " << app << ", kmod " << kmod << '\n'
		  << "CR3 = " << std::hex << std::showbase << value << '\n';
	return app == 3 && kmod == 0 && value ? 0 : 1;
}
