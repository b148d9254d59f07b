# slot.scr: starts the kernel of the slot it lies in. boot.scr runs it with ${devtype},
# ${devnum}, ${boot_part}, ${slot} and ${chooser_args} set; it comes back only when a file is
# missing or altered, or the kernel is refused.

# Loads ${file} to ${at} and compares size and CRC-32 with what the image was built with. This
# finds decay; whether the slot can be trusted is for the initrd to say.
setenv load_file '
setenv loaded no;
if load ${devtype} ${devnum}:${boot_part} ${at} ${file}; then
  if itest ${filesize} == ${size}; then
    crc32 ${at} ${filesize} @SUM_AT@;
    if itest.l *@SUM_AT@ == ${sum}; then
      setenv loaded yes;
    fi;
  fi;
  if test "${loaded}" = "no"; then
    echo "ferrite: ${file} of slot ${slot} is altered";
  fi;
fi;
if test "${loaded}" = "no"; then
  setenv ready no;
fi'

# Which disk this is: the initrd uses no other one that has Ferrite on it. Said here and not by
# boot.scr, which no update replaces.
setenv boot_guid
part uuid ${devtype} ${devnum}:${boot_part} boot_guid

setenv bootargs "@KERNEL_ARGUMENTS@ ferrite.slot=${slot} @DISK_ARGUMENT@${boot_guid} ${chooser_args}"
setenv ready yes

# The initramfs lies behind the room that the kernel says it needs, its .bss included, the device
# tree behind that.
@FILES@
if test "${ready}" = "yes"; then
  booti @KERNEL_AT@ @INITRD_AT@:@INITRD_SIZE@ @DEVICE_TREE_AT@
fi
