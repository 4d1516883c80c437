# SPDX-License-Identifier: GPL-2.0-only
# The version of the Python package beside which this file lies: of a checkout, or installed.

foreach(_kbridge_file IN ITEMS "../../kbridge/__init__.py" "../../../__init__.py")
  if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/${_kbridge_file}")
    file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/${_kbridge_file}" _kbridge_line
      REGEX "^__version__ = " LIMIT_COUNT 1)
    break()
  endif()
endforeach()
string(REGEX MATCH "[0-9]+(\\.[0-9]+)*" PACKAGE_VERSION "${_kbridge_line}")

# as semantic versions have it: 0.2 is not compatible with 0.1
string(REGEX MATCH "^(0\\.)?[0-9]+" _kbridge_mine "${PACKAGE_VERSION}.0")
string(REGEX MATCH "^(0\\.)?[0-9]+" _kbridge_wanted "${PACKAGE_FIND_VERSION}.0")
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION
    AND (_kbridge_mine STREQUAL _kbridge_wanted OR PACKAGE_FIND_VERSION STREQUAL "0"))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
