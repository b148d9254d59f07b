# boot.scr: which slot boots next. The firmware's standard boot runs it from the partition
# `firmware` with ${devtype} and ${devnum} set (virtio 0, mmc 1 ...). The rules are a table in
# docs/choosers/uboot.md; the format of the state is in docs/architecture.md.
#
# The shell of U-Boot has no functions, so steps used twice are variables that `run` executes.
# All numbers are hexadecimal.

# It uses nothing that the U-Boot of a Jetson Nano leaves out: no setexpr, so places are written
# here when the image is built, and numbers are counted by going through a list. A loop's variable
# has a name that nothing else has: one in the environment would hide it.

setenv state_vars "gen active trial tries strikes fallback note"

# The state's two copies lie in the reserved sectors of the FAT this script came from.
${devtype} dev ${devnum}

# Reads one copy and judges it. A variable the blob lacks is gone after the import, so nothing
# is left over from the other copy.
setenv read_copy '
setenv copy unreadable;
if ${devtype} read ${at} ${sector} 1; then
  setenv copy corrupt;
  if env import -c ${at} 200 ${state_vars}; then
    if test -n "${gen}" -a -n "${tries}" -a -n "${strikes}" -a -n "${note}"; then
      if test "${active}" = "a" -o "${active}" = "b"; then
        if test "${trial}" = "a" -o "${trial}" = "b" -o "${trial}" = "-"; then
          if test "${fallback}" = "a" -o "${fallback}" = "b" -o "${fallback}" = "-"; then
            setenv copy valid;
          fi;
        fi;
      fi;
    fi;
  fi;
fi'

setenv at @STATE_0@
setenv sector @SECTOR_0@
run read_copy
setenv copy_0 ${copy}
setenv gen_0 ${gen}
setenv at @STATE_1@
setenv sector @SECTOR_1@
run read_copy
setenv copy_1 ${copy}
setenv gen_1 ${gen}

# The valid copy with the higher generation rules; the other one is written next, so a power
# cut in the middle of a write leaves the ruling copy whole.
setenv rules none
if test "${copy_0}" = "valid"; then
  setenv rules 0
fi
if test "${copy_1}" = "valid"; then
  if test "${rules}" = "none"; then
    setenv rules 1
  elif itest ${gen_1} -gt ${gen_0}; then
    setenv rules 1
  fi
fi
if test "${rules}" = "0"; then
  env import -c @STATE_0@ 200 ${state_vars}
  setenv next @SECTOR_1@
  setenv after_next @SECTOR_0@
elif test "${rules}" = "1"; then
  env import -c @STATE_1@ 200 ${state_vars}
  setenv next @SECTOR_0@
  setenv after_next @SECTOR_1@
else
  # Nobody knows which slot was committed. Try both; each proves itself to the initrd.
  setenv gen 0
  setenv active a
  setenv trial -
  setenv tries 0
  setenv strikes 0
  setenv fallback b
  setenv note boot-state-lost
  setenv next @SECTOR_0@
  setenv after_next @SECTOR_1@
  echo "ferrite: boot state lost (copy 0 ${copy_0}, copy 1 ${copy_1}), starting afresh with slot a"
  # A medium that did not answer may still hold a good state: do not write over it.
  if test "${copy_0}" = "unreadable" -o "${copy_1}" = "unreadable"; then
    setenv next none
  fi
fi

# One more than ${number}: as text in memory, digit by digit from the last one on. A digit that is
# f becomes 0 and carries; what is no digit, behind the number's end, is passed over.
setenv digits "30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66 30"
setenv count_up '
mw.b @NUMBER@ 0 40;
env export -t @NUMBER@ number;
setenv carry yes;
for digit_at in @DIGITS@; do
  if test "${carry}" = "yes"; then
    setenv was;
    setenv now;
    for digit in ${digits}; do
      if test -n "${was}"; then
        if itest.b *${digit_at} == ${was}; then
          setenv now ${digit};
        fi;
      fi;
      setenv was ${digit};
    done;
    if test -n "${now}"; then
      mw.b ${digit_at} ${now};
      if test "${now}" != "30"; then
        setenv carry no;
      fi;
    fi;
  fi;
done;
env import -t @NUMBER@ 40 number;
if test "${carry}" = "yes"; then
  setenv number 1${number};
fi'

# Writes the state over the older copy and reads it back. Fails if the medium did not take it.
setenv save '
setenv saved no;
if test "${next}" != "none"; then
  setenv number ${gen};
  run count_up;
  setenv gen ${number};
  if env export -c -s 200 @STATE_NEW@ ${state_vars}; then
    if ${devtype} write @STATE_NEW@ ${next} 1; then
      if ${devtype} read ${at} ${next} 1; then
        if cmp.b @STATE_NEW@ ${at} 200; then
          setenv saved yes;
        fi;
      fi;
    fi;
  fi;
  setenv sector ${next};
  setenv next ${after_next};
  setenv after_next ${sector};
fi;
if test "${saved}" = "no"; then
  echo "ferrite: boot state not written";
fi;
test "${saved}" = "yes"'

# Runs slot.scr of ${slot}. Comes back only if that slot cannot be started.
setenv start '
setenv boot_part;
part number ${devtype} ${devnum} boot-${slot} boot_part;
if test -n "${boot_part}"; then
  if load ${devtype} ${devnum}:${boot_part} @SLOT_SCRIPT@ slot.scr; then
    source @SLOT_SCRIPT@;
  fi;
fi;
setenv note boot-${slot}-not-loadable;
echo "ferrite: slot ${slot} cannot be loaded"'

# Armed before anything of a slot runs: from here on whatever hangs is reset.
@WATCHDOG@

# What tries can be, and what strikes are one after another.
setenv bytes "@BYTES@"
setenv strike_numbers "@STRIKES@"

# The count goes down before the slot gets its turn. If that cannot be written, the trial would
# never end: the committed slot is started instead.
setenv try_trial '
setenv was;
setenv left 0;
for byte in ${bytes}; do
  if test -n "${was}"; then
    if itest ${byte} == ${tries}; then
      setenv left ${was};
    fi;
  fi;
  setenv was ${byte};
done;
setenv tries ${left};
if run save; then
  setenv slot ${trial};
  setenv chooser_args "ferrite.trial=1";
  echo "ferrite: slot ${slot} (trial, ${tries} tries left)";
  run start;
fi'

# Every other boot is one strike more. That it cannot be written is no reason not to boot. A state
# of version 0.1 may have more strikes than a round, which begins again then.
setenv count_strike '
setenv was;
setenv more 1;
for byte in ${strike_numbers}; do
  if test -n "${was}"; then
    if itest ${was} == ${strikes}; then
      setenv more ${byte};
    fi;
  fi;
  setenv was ${byte};
done;
setenv strikes ${more};
run save'

setenv try_active '
setenv slot ${active};
setenv chooser_args;
echo "ferrite: slot ${slot} (active, strike ${strikes})";
run start'

setenv try_fallback '
if test "${fallback}" != "-"; then
  setenv slot ${fallback};
  setenv chooser_args "ferrite.fallback=1";
  echo "ferrite: slot ${slot} (fallback, strike ${strikes})";
  run start;
fi'

if test "${trial}" != "-"; then
  if itest ${tries} -gt 0; then
    run try_trial
  fi
fi

# The active slot and the one to fall back to take turns, so that the one that can boot is booted.
setenv turn active
if test "${fallback}" != "-"; then
  if itest ${strikes} -ge @STRIKES_PER_TURN@; then
    if itest ${strikes} -lt @STRIKES_PER_ROUND@; then
      setenv turn fallback
    fi
  fi
fi
run count_strike
if test "${turn}" = "fallback"; then
  run try_fallback
  run try_active
else
  run try_active
  run try_fallback
fi

echo "ferrite: no slot can be loaded, resetting"
reset
