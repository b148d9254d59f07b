#!/usr/bin/busybox sh
# Asks the model every ten seconds whether it is well.
busybox=/usr/bin/busybox
told=
while :; do
    if [ "$($busybox wget -q -T 5 -O - http://127.0.0.1:8080/healthz 2>/dev/null)" = ok ]; then
        now=well pause=10
        # A newline on this descriptor says "ready"; each further one is a heartbeat.
        [ -z "${FERRITE_NOTIFY_FD:-}" ] || echo >&"$FERRITE_NOTIFY_FD"
    else
        now="not well" pause=1
    fi
    [ "$now" = "$told" ] || echo "the model is $now"
    told=$now
    $busybox sleep $pause
done
