# Intel 6300ESB on PCI bus 0, found by its id through the memory-mapped configuration space.
# Each of its two stages counts @STAGE@ ticks of 1/1024 s; after the second it resets.
setenv watchdog none
for device in 0 1 2 3 4 5 6 7 8 9 a b c d e f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f; do
  setexpr config ${device} * 8000
  setexpr config ${config} + @ECAM@
  setexpr.l id *${config}
  if itest ${id} == 25ab8086; then
    setenv watchdog ${config}
  fi
done
if test "${watchdog}" = "none"; then
  echo "ferrite: no i6300esb watchdog found"
else
  # Command register: answer to memory accesses.
  setexpr register ${watchdog} + 4
  mw.w ${register} 6
  setexpr register ${watchdog} + 10
  setexpr.l timer *${register}
  setexpr timer ${timer} "&" fffffff0
  setexpr unlock ${timer} + c
  # Each timer register takes a value only right after 80, 86 were written to the reload register.
  mw.w ${unlock} 80
  mw.w ${unlock} 86
  mw.l ${timer} @STAGE@
  setexpr register ${timer} + 4
  mw.w ${unlock} 80
  mw.w ${unlock} 86
  mw.l ${register} @STAGE@
  # Load the timers.
  mw.w ${unlock} 80
  mw.w ${unlock} 86
  mw.w ${unlock} 100
  # Configuration 60: 1 kHz, no interrupt after the first stage, reset after the second.
  setexpr register ${watchdog} + 60
  mw.w ${register} 3
  # Lock 68: enable, do not lock, so that the kernel's driver takes it over.
  setexpr register ${watchdog} + 68
  mw.b ${register} 2
  echo "ferrite: watchdog armed, @SECONDS@ s"
fi
