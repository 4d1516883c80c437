// SPDX-License-Identifier: GPL-2.0-only

/** samples/cr3 in Java: prints CR3, and the privilege level on both sides. */
class Cr3 {
    static {
        System.loadLibrary("samples");
    }

    static native long cr3();

    static native int privilegeLevel();

    static native int appLevel();

    public static void main(String[] words) {
        int app = appLevel(), kmod = privilegeLevel();
        long value = cr3();

        System.out.printf("privilege level: app %d, kmod %d%n", app, kmod);
        System.out.printf("CR3 = %#x%n", value);
        System.exit(app == 3 && kmod == 0 && value != 0 ? 0 : 1);
    }
}
