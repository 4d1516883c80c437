// SPDX-License-Identifier: GPL-2.0-only
/* A character device, as a driver has it: an open file of it holds the module. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include "device_kmod.h"

static int released;

static ssize_t device_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, "from the device", 16);
}

static int device_release(struct inode *inode, struct file *file)
{
	released++;
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.read = device_read,
	.release = device_release,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kb_device",
	.fops = &operations,
};

int device_minor(void)
{
	return device.minor;
}

static int __init device_init(void)
{
	return misc_register(&device);
}

static void __exit device_exit(void)
{
	struct file *root = filp_open("/", O_RDONLY | O_DIRECTORY, 0);

	misc_deregister(&device);
	pr_info("device_kmod: exit after %d releases, root %s\n", released,
		IS_ERR(root) ? "gone" : "opened");
	if (!IS_ERR(root))
		filp_close(root, NULL);
}

module_init(device_init);
module_exit(device_exit);
MODULE_LICENSE("GPL");
