// SPDX-License-Identifier: GPL-2.0-only
/* The native side of Cr3 and FdInfo: Java types to C and back, nothing else. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>
#include <cr3_kmod.h>
#include <fd_info_kmod.h>
#include "Cr3.h"
#include "FdInfo.h"

jlong Java_Cr3_cr3(JNIEnv *env, jclass class)
{
	return cr3();
}

jint Java_Cr3_privilegeLevel(JNIEnv *env, jclass class)
{
	return privilege_level();
}

jint Java_Cr3_appLevel(JNIEnv *env, jclass class)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

jobject Java_FdInfo_of(JNIEnv *env, jclass class, jobject file)
{
	jclass files = (*env)->GetObjectClass(env, file);
	int fd = (*env)->GetIntField(env, file, (*env)->GetFieldID(env, files, "fd", "I"));
	struct fd_info info;
	int error = fd_info(fd, &info);

	if (error) {
		jclass io = (*env)->FindClass(env, "java/io/IOException");

		(*env)->ThrowNew(env, io, strerror(-error));
		return NULL;
	}
	return (*env)->NewObject(env, class, (*env)->GetMethodID(env, class, "<init>", "(IIIJ)V"),
				 fd, info.pid, gettid(), (jlong)info.position);
}
