// SPDX-License-Identifier: GPL-2.0-only
// The same program in C++, with what only C++ has: libstdc++, exceptions, static objects.
#include <iostream>
#include <stdexcept>
#include <string>

static std::string words(const std::string &first)
{
	if (first.empty())
		throw std::runtime_error("said by C++");
	return first + std::to_string(first.size());
}

struct Greeting {
	Greeting()
	{
		try {
			words("");
		} catch (const std::exception &problem) {
			std::cout << problem.what() << " " << words("abc") << std::endl;
		}
	}
};

static Greeting greeting;

#include "names.c"
