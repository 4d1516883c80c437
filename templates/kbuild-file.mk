# SPDX-License-Identifier: GPL-2.0-only
#
# Has make itself evaluate a Kbuild file and print what kbridge asks of it, "KEY VALUE" a line.
# The names and their meaning: Documentation/kbuild/makefiles.rst, scripts/Makefile.lib.
# Given: KBRIDGE_FILE, KBRIDGE_CONFIG (include/config/auto.conf), src, obj, srctree, KERNELRELEASE.

.PHONY: kbridge-print
kbridge-print: ;

-include $(KBRIDGE_CONFIG)
include $(KBRIDGE_FILE)
.DEFAULT_GOAL := kbridge-print

kbridge-targets := $(obj-m) $(obj-y)
kbridge-flags := $(sort $(filter CFLAGS_% AFLAGS_%,$(.VARIABLES)))
# CFLAGS_KERNEL and the like, from the environment or the configuration, are no object's
kbridge-flags := $(filter %.o,$(kbridge-flags))

$(info obj $(kbridge-targets))
$(info ccflags $(subdir-ccflags-y) $(ccflags-y) $(EXTRA_CFLAGS))
$(info asflags $(subdir-asflags-y) $(asflags-y) $(EXTRA_AFLAGS))
$(info ccflags-remove $(ccflags-remove-y))
$(info asflags-remove $(asflags-remove-y))
$(info ldflags $(ldflags-y))
$(foreach target,$(kbridge-targets),$(info parts:$(target) \
	$(foreach suffix,-objs -y -m,$($(target:.o=$(suffix))))))
$(foreach name,$(kbridge-flags),$(info $(name) $($(name))))
