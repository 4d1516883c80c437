/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MODULE_MOVES_KMOD_H
#define MODULE_MOVES_KMOD_H

long address_of_it(int from_data);
/* the date as FAT file systems write it, of seconds since 1970 */
int date_of(long seconds);
int date_by_pointer(long seconds);

#endif
