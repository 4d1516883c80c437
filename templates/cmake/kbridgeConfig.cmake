# SPDX-License-Identifier: GPL-2.0-only
# For find_package(kbridge): kbridge_add_kmod() compiles kernel code into a program or library.
#
#   cmake -S . -B build -Dkbridge_DIR="$(kbridge cmake-dir)"
#
# KBRIDGE_KERNEL (a release) and KBRIDGE_KDIR (a header folder) say for which kernel; what is chosen
# where neither is given stays until the cache is changed.

cmake_minimum_required(VERSION 3.21)

set(_kbridge_site "${CMAKE_CURRENT_LIST_DIR}/../../../..")
unset(kbridge_NOT_FOUND_MESSAGE)
find_program(KBRIDGE_EXECUTABLE kbridge
  HINTS
    "${CMAKE_CURRENT_LIST_DIR}/../../.venv/bin" # of a checkout
    "${_kbridge_site}/../../../bin" # of an environment: lib/python3.11/site-packages is in it
    "${_kbridge_site}/bin" # of pip install --target
  DOC "The kbridge command")
if(NOT KBRIDGE_EXECUTABLE)
  set(kbridge_FOUND FALSE)
  set(kbridge_NOT_FOUND_MESSAGE
    "no kbridge command on PATH, nor in the environment of ${CMAKE_CURRENT_LIST_DIR}; \
name it with -DKBRIDGE_EXECUTABLE=/path/to/kbridge")
  return()
endif()

# The words of CMake's list ARGN to kbridge; what it prints.  On an error kbridge_NOT_FOUND_MESSAGE
# has its own words.
function(_kbridge_ask variable)
  execute_process(
    COMMAND "${KBRIDGE_EXECUTABLE}" ${ARGN}
    OUTPUT_VARIABLE printed
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_VARIABLE said
    ERROR_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " words)
    set(kbridge_NOT_FOUND_MESSAGE "kbridge ${words}:\n${said}" PARENT_SCOPE)
  endif()
  set(${variable} "${printed}" PARENT_SCOPE)
endfunction()

# The release that kbridge would build for now, by what `kbridge kernels --json` says.
function(_kbridge_default_kernel variable json)
  string(JSON count LENGTH "${json}" kernels)
  if(count EQUAL 0)
    return()
  endif()
  math(EXPR last "${count} - 1")
  foreach(index RANGE ${last})
    string(JSON default GET "${json}" kernels ${index} default)
    if(default)
      string(JSON release GET "${json}" kernels ${index} release)
      set(${variable} "${release}" PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

set(KBRIDGE_KDIR "$ENV{KDIR}" CACHE PATH "Kernel header folder that kmods are built for")
if(NOT KBRIDGE_KERNEL AND NOT KBRIDGE_KDIR)
  _kbridge_ask(_kbridge_kernels kernels --json)
  if(kbridge_NOT_FOUND_MESSAGE)
    set(kbridge_FOUND FALSE)
    return()
  endif()
  _kbridge_default_kernel(KBRIDGE_KERNEL "${_kbridge_kernels}")
  if(NOT KBRIDGE_KERNEL)
    set(kbridge_FOUND FALSE)
    set(kbridge_NOT_FOUND_MESSAGE "no kernel headers here: kbridge doctor says which package has them")
    return()
  endif()
endif()
set(KBRIDGE_KERNEL "${KBRIDGE_KERNEL}" CACHE STRING "Kernel release that kmods are built for")

_kbridge_ask(_kbridge_folder pkg-config-path)
if(kbridge_NOT_FOUND_MESSAGE)
  set(kbridge_FOUND FALSE)
  return()
endif()
set(KBRIDGE_INCLUDE_DIR "${_kbridge_folder}/include")

# -- kbridge_add_kmod(target source... [KERNEL release | KDIR folder] [CODE pic|kernel]
#      [LINK libkernel|script] [MITIGATIONS keep|drop] [STACK_LIMIT bytes] [DEBUG]
#      [INCLUDE_DIRECTORIES folder...] [KCFLAGS flag...] [ALLOW class...] [SYMBOL name=address...])

# A source as the project names it: in the folder of its CMakeLists.txt, or made by a command there.
function(_kbridge_file variable source)
  cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE
    OUTPUT_VARIABLE file)
  if(NOT EXISTS "${file}")
    set(named "${file}")
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}" NORMALIZE
      OUTPUT_VARIABLE file)
    get_source_file_property(generated "${file}" GENERATED)
    if(NOT generated)
      message(FATAL_ERROR "kbridge_add_kmod: no such source: ${named}, and no add_custom_command() "
        "before makes ${file}")
    endif()
  endif()
  set(${variable} "${file}" PARENT_SCOPE)
endfunction()

# The words of kbridge_add_kmod() that can be said to be wrong now.
function(_kbridge_check_words)
  foreach(rule IN ITEMS "CODE pic|kernel" "LINK libkernel|script" "MITIGATIONS keep|drop")
    string(REPLACE " " ";" rule "${rule}")
    list(GET rule 0 name)
    list(GET rule 1 known)
    if(DEFINED arg_${name} AND NOT arg_${name} MATCHES "^(${known})$")
      message(FATAL_ERROR "kbridge_add_kmod: ${name} ${arg_${name}}: ${name} ${known}")
    endif()
  endforeach()
  foreach(word IN LISTS arg_UNPARSED_ARGUMENTS arg_INCLUDE_DIRECTORIES arg_ALLOW arg_SYMBOL)
    if(word MATCHES "^[A-Z][A-Z_]+$" AND NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${word}")
      message(FATAL_ERROR "kbridge_add_kmod: ${word}: neither a word that it knows nor a file")
    endif()
  endforeach()
endfunction()

# Refuse what cannot be, in CMake's words, before anything is built.
function(_kbridge_check target)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "kbridge_add_kmod: no target ${target}; add_executable(${target} ...) or "
      "add_library(${target} SHARED ...) comes first")
  endif()
  get_target_property(kind ${target} TYPE)
  if(NOT kind MATCHES "^(EXECUTABLE|SHARED_LIBRARY|MODULE_LIBRARY)$")
    message(FATAL_ERROR "kbridge_add_kmod: ${target} is neither a program nor a shared library "
      "(${kind}), and a kmod is part of one")
  endif()
  get_target_property(before ${target} KBRIDGE_KMOD)
  if(before)
    message(FATAL_ERROR "kbridge_add_kmod: ${target} has a kmod; name all sources in one call")
  endif()
  if(NOT arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "kbridge_add_kmod: no kmod source for ${target}")
  endif()
  if(arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "kbridge_add_kmod: no word after ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  _kbridge_check_words()
endfunction()

# One string of words, quoted as a shell reads them.
function(_kbridge_quoted variable)
  set(quoted)
  foreach(word IN LISTS ARGN)
    string(REPLACE "'" "'\\''" word "${word}")
    list(APPEND quoted "'${word}'")
  endforeach()
  list(JOIN quoted " " quoted)
  set(${variable} "${quoted}" PARENT_SCOPE)
endfunction()

# The option before each word: --allow stack --allow section.
function(_kbridge_each variable option)
  set(words)
  foreach(word IN LISTS ARGN)
    list(APPEND words ${option} "${word}")
  endforeach()
  set(${variable} "${words}" PARENT_SCOPE)
endfunction()

# The parsed arguments as words for kbridge: of every stage, of pic, of pack, of pack and libs.
macro(_kbridge_options)
  if(arg_KDIR)
    set(kernel --kdir "${arg_KDIR}")
  elseif(arg_KERNEL)
    set(kernel --kernel "${arg_KERNEL}")
  elseif(KBRIDGE_KDIR)
    set(kernel --kdir "${KBRIDGE_KDIR}")
  else()
    set(kernel --kernel "${KBRIDGE_KERNEL}")
  endif()
  set(pic)
  set(pack)
  set(link)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  if(arg_DEBUG OR type STREQUAL "DEBUG")
    list(APPEND pic --debug)
    list(APPEND pack --debug)
  endif()
  if(arg_CODE)
    list(APPEND pic --code "${arg_CODE}")
  endif()
  if(arg_MITIGATIONS)
    list(APPEND pic --mitigations "${arg_MITIGATIONS}")
    list(APPEND pack --mitigations "${arg_MITIGATIONS}")
  endif()
  if(arg_STACK_LIMIT)
    list(APPEND pack --stack-limit "${arg_STACK_LIMIT}")
  endif()
  if(arg_LINK)
    set(link --link "${arg_LINK}")
  endif()
  if(arg_KCFLAGS)
    _kbridge_quoted(flags ${arg_KCFLAGS})
    list(APPEND pic "--kcflags=${flags}")
  endif()
  foreach(folder IN LISTS arg_INCLUDE_DIRECTORIES)
    cmake_path(ABSOLUTE_PATH folder BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
    list(APPEND pic -I "${folder}")
  endforeach()
  _kbridge_each(allow --allow ${arg_ALLOW})
  _kbridge_each(symbol --symbol ${arg_SYMBOL})
  list(APPEND pack ${allow} ${symbol})
endmacro()

# One source to one object, and its headers to a file for make or ninja; ARGN: options of kbridge.
# `options` is a file that changes with them, which make would not see.
function(_kbridge_compile variable target source options)
  _kbridge_file(file "${source}")
  file(RELATIVE_PATH relative "${CMAKE_CURRENT_SOURCE_DIR}" "${file}")
  string(REGEX REPLACE "[^A-Za-z0-9_.+-]" "_" name "${relative}")
  if(NOT name STREQUAL relative) # a/b.c beside a_b.c
    string(SHA256 hash "${relative}")
    string(SUBSTRING "${hash}" 0 8 hash)
    string(APPEND name "-${hash}")
  endif()
  set(object "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.kmod/${name}.o")
  # kbridge takes ccache and the like from CC, and the kernel's compiler from Kbuild
  set(compiler cc)
  if(CMAKE_C_COMPILER)
    _kbridge_quoted(compiler ${CMAKE_C_COMPILER_LAUNCHER} "${CMAKE_C_COMPILER}")
    string(APPEND compiler " ${CMAKE_C_COMPILER_ARG1}")
  endif()
  add_custom_command(
    OUTPUT "${object}"
    COMMAND "${CMAKE_COMMAND}" -E env "CC=${compiler}"
      "${KBRIDGE_EXECUTABLE}" pic -q "${file}" -o "${object}" --depfile "${object}.d"
      --name ${target} ${ARGN}
    DEPENDS "${file}" "${options}" "${KBRIDGE_EXECUTABLE}"
    DEPFILE "${object}.d"
    COMMENT "Compiling kernel code ${relative}"
    VERBATIM)
  set(${variable} "${object}" PARENT_SCOPE)
endfunction()

function(kbridge_add_kmod target)
  cmake_parse_arguments(PARSE_ARGV 1 arg
    "DEBUG"
    "KERNEL;KDIR;CODE;LINK;MITIGATIONS;STACK_LIMIT"
    "INCLUDE_DIRECTORIES;KCFLAGS;ALLOW;SYMBOL")
  _kbridge_check(${target})
  _kbridge_options()
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.kmod")
  set(options "${folder}/options")
  file(CONFIGURE OUTPUT "${options}" CONTENT "${kernel}\n${pic}\n${pack}\n${link}\n" @ONLY)
  set(objects)
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    _kbridge_compile(object ${target} "${source}" "${options}" ${kernel} ${pic})
    list(APPEND objects "${object}")
  endforeach()
  list(REMOVE_DUPLICATES objects)

  set(packed "${folder}/${target}.o")
  add_custom_command(
    OUTPUT "${packed}"
    COMMAND "${KBRIDGE_EXECUTABLE}" pack -q ${objects} -o "${packed}"
      --name ${target} ${kernel} ${pack} ${link}
    DEPENDS ${objects} "${options}" "${KBRIDGE_EXECUTABLE}"
    COMMENT "Packing kernel code of ${target}"
    VERBATIM)
  # with every link, since what it names is in a cache, which may be emptied
  set(words "${folder}/${target}.libs")
  add_custom_command(
    TARGET ${target} PRE_LINK
    COMMAND "${KBRIDGE_EXECUTABLE}" libs -o "${words}" ${kernel} ${link}
    BYPRODUCTS "${words}"
    VERBATIM)

  get_target_property(sources ${target} SOURCES)
  if(NOT sources)
    set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C)
  endif()
  target_sources(${target} PRIVATE "${packed}")
  target_include_directories(${target} PRIVATE "${KBRIDGE_INCLUDE_DIR}")
  target_link_options(${target} PRIVATE "@${words}")
  set_target_properties(${target} PROPERTIES KBRIDGE_KMOD "${packed}")
endfunction()
