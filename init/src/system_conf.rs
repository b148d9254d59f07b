//! What the rootfs runs: the types of `formats::system_conf`, and lines of it for tests.

pub use formats::system_conf::{
    Capability, NetworkAccess, Provision, Radio, RestartLimits, RestartPolicy, System, Workload,
};

#[cfg(test)]
pub mod tests {
    /// The lines of a workload that stops nothing from starting.
    pub const PLAIN: &str = "command /usr/bin/x\nuid 10001\ndata no\nnetwork no\nmedia no\nvital no\n\
        restart always\nbackoff 1 60\nbudget 5 300\nready started\nready-timeout 30\n\
        log-size 65536\nconsole no\nstop-timeout 10\n";

    /// A whole file with these sections behind a plain head.
    pub fn with(sections: &str) -> String {
        let head = "ferrite-system 1\nhostname demo\nboard b\nchooser uboot\n\
            trial-timeout 120\nnetwork dhcp\nmedia no\n";
        [head, sections].concat()
    }
}
