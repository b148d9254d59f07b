//! The keys of every file and message in [conf form](crate::conf), each in one place: whoever writes
//! a key and whoever reads it name the same constant.

macro_rules! keys {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: &str = $text;)*
    };
}

// What several of them have.
keys! {
    BOARD = "board";
    BOOT_CHOOSER = "chooser";
    DATA = "data";
    HOSTNAME = "hostname";
    MEDIA = "media";
    MODULE_CHAIN = "modules";
    NAME = "name";
    NETWORK = "network";
    REASON = "reason";
    SEQUENCE = "sequence";
    SLOT = "slot";
    STATE = "state";
    VERSION = "version";
    WATCHDOG = "watchdog";
    WIFI = "wifi";
}

// boot.conf
keys! {
    CHOOSER_MODULE_CHAIN = "chooser-modules";
    LATER_MODULE_CHAIN = "later-modules";
    MANIFEST_KEY = "key";
}

// system.conf, head
keys! {
    BUILD_DATE = "build-date";
    CONSOLE_SHELL = "console-shell";
    MODULE = "module";
    NTP = "ntp";
    READ_AHEAD = "read-ahead";
    SSH_SERVER = "ssh-server";
    TRIAL_TIMEOUT = "trial-timeout";
}

// system.conf, [workload NAME]
keys! {
    WORKLOAD = "workload";
    AFTER = "after";
    ARG = "arg";
    ASK = "ask";
    BACKOFF = "backoff";
    BUDGET = "budget";
    CAPABILITY = "capability";
    COMMAND = "command";
    CONSOLE = "console";
    DATA_FILES = "data-files";
    DATA_MAX = "data-max";
    ENV = "env";
    GROUP = "group";
    HEALTH_ARG = "health-arg";
    HEALTH_COMMAND = "health-command";
    HEALTH_INTERVAL = "health-interval";
    HEALTH_RETRIES = "health-retries";
    HEALTH_TIMEOUT = "health-timeout";
    HEARTBEAT = "heartbeat";
    LISTEN = "listen";
    LOG_SIZE = "log-size";
    MEMORY_MAX = "memory-max";
    NEEDS = "needs";
    PIDS_MAX = "pids-max";
    READY = "ready";
    READY_TIMEOUT = "ready-timeout";
    RESTART = "restart";
    SOCKET_FOR = "socket-for";
    STOP_TIMEOUT = "stop-timeout";
    UID = "uid";
    VITAL = "vital";
}

// The files below /run/ferrite
keys! {
    BOOT_MS = "boot-ms";
    DISK = "disk";
    FALLBACK = "fallback";
    TRIAL = "trial";
    UNIX = "unix";
}

// The answer to `ctl health`
keys! {
    HEALTHY_FOR = "healthy-for";
}

// A device's settings
keys! {
    FILE = "file";
    SSH_KEY = "ssh-key";
    TIMEZONE = "timezone";
}

// A slot's manifest
keys! {
    BOOT_FILE = "boot-file";
    BOOT_SIZE = "boot-size";
    CHUNK_SIZE = "chunk-size";
    CHUNK_TABLE_SHA256 = "chunk-table-sha256";
    MODEL = "model";
    ROLLBACK_FLOOR = "floor";
    ROOT_HASH_SIZE = "root-hash-size";
    ROOT_SIZE = "root-size";
    ROOT_VERITY_HASH = "root-verity-hash";
    ROOT_VERITY_SALT = "root-verity-salt";
}
