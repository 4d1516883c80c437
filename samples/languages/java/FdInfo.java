// SPDX-License-Identifier: GPL-2.0-only

import java.io.File;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;

/** samples/fd_info in Java: asks the kernel for the position of a file. */
class FdInfo {
    static {
        System.loadLibrary("samples");
    }

    final int fd;
    final int pid;
    final int tid; // what gettid() says: to the kernel each thread has a pid of its own
    final long position;

    /** Called by the native side. */
    private FdInfo(int fd, int pid, int tid, long position) {
        this.fd = fd;
        this.pid = pid;
        this.tid = tid;
        this.position = position;
    }

    static native FdInfo of(FileDescriptor file) throws IOException;

    public static void main(String[] words) throws IOException {
        File path = File.createTempFile("fd_info", null);

        try (FileOutputStream file = new FileOutputStream(path)) {
            path.delete();
            file.write("Hello, kernel!\n".getBytes());
            FdInfo info = of(file.getFD());
            System.out.printf(
                    "the kernel says: pid %d (gettid() says %d), file position %d of fd %d%n",
                    info.pid, info.tid, info.position, info.fd);
            System.exit(info.pid == info.tid && info.position == 15 ? 0 : 1);
        }
    }
}
