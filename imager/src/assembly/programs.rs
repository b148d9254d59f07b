//! Whether what the workloads start would start on the device: a program for its processor, with its
//! interpreter and its libraries on the root. The kernel and the dynamic linker would say so too, to
//! a console that nobody sees.

use anyhow::{Context, Result, bail, ensure};

use super::device_conf::OTA_PATH;
use super::elf::{self, Object};
use super::libraries::{self, Instead, Missing, bytes};
use super::root_layout::RUNNER_PATH;
use crate::config::values::Line;
use crate::config::workload::Workload;
use crate::config::{Board, Image};
use imagefs::tree::{Kind, Tree};

/// The kernel looks at so much of a script's first line (Linux include/uapi/linux/binfmts.h,
/// `BINPRM_BUF_SIZE`).
const SCRIPT_LINE: usize = 256;
/// Scripts that are interpreters of scripts: the kernel follows so many (fs/exec.c,
/// `exec_binprm`).
const MAX_SCRIPTS: u32 = 5;
/// What every workload has for `PATH` unless it sets another.
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
/// Folders that are filled on the device.
const NOT_ON_THE_ROOT: [&str; 7] = ["/data", "/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp"];
/// Libraries that are named in one message.
const NAMED: usize = 5;

/// Fails on the first workload that could not be started, with what is missing.
pub fn check(tree: &Tree, image: &Image, board: &Board) -> Result<()> {
    for workload in &image.workloads {
        let checker = Checker { tree, board, workload };
        let health = workload.health.as_ref().map(|health| ("`health.command`: ", &health.command));
        let commands = [("", workload.command())];
        let health = health.map(|(what, command)| (what, command.as_slice()));
        for (what, command) in commands.into_iter().chain(health) {
            checker
                .command(command)
                .with_context(|| format!("workload {}: {what}cannot start", workload.name()))?;
        }
    }
    Ok(())
}

/// Fails when a program could not be started whatever else lies on the root.
pub fn check_alone(path: &str, content: &[u8], board: &Board) -> Result<()> {
    ensure!(!content.is_empty(), "{path} is an empty file");
    if content.starts_with(b"#!") {
        return Ok(());
    }
    ensure!(
        content.starts_with(b"\x7FELF"),
        "{path} is neither a program for Linux (an ELF file) nor a script (its first line would \
         begin with #!)"
    );
    let architecture = board.debian.architecture;
    ensure!(
        elf::machine(content) == Some(architecture.elf_machine()),
        "{path} is a program for {}, and {} has {} ({}): build it for that",
        processor(elf::machine(content)),
        board.name(),
        architecture.machine(),
        architecture.as_str()
    );
    parsed(path, content).map(drop)
}

fn parsed<'a>(path: &str, content: &'a [u8]) -> Result<Object<'a>> {
    Object::parse(content).with_context(|| {
        format!("{path} is a program that is cut off or damaged; build or copy it again")
    })
}

struct Checker<'a> {
    tree: &'a Tree,
    board: &'a Board,
    workload: &'a Workload,
}

impl Checker<'_> {
    fn command(&self, command: &[Line]) -> Result<()> {
        let program = command.first().context("a command without a program")?.as_str();
        self.program(program, 0)?;
        self.script_argument(command)
    }

    /// A file that is to be started.
    fn program(&self, path: &str, depth: u32) -> Result<()> {
        match self.tree.follow(path).map(|node| (&node.kind, node.mode)) {
            Some((Kind::File(_), mode)) if mode & 0o111 != 0 => {}
            Some(_) => bail!("{path} is not an executable file; give it `mode = \"0755\"`"),
            None => {
                bail!("nothing puts {path} on the root; add it with `binary`, [[file]] or [debian]")
            }
        }
        let content = bytes(self.tree, path).unwrap_or_default();
        if !content.is_empty() && self.is_own(content) {
            return Ok(());
        }
        check_alone(path, content, self.board)?;
        if content.starts_with(b"#!") {
            ensure!(
                depth < MAX_SCRIPTS,
                "{path} is a script whose interpreters are scripts without end"
            );
            return self.script(path, content, depth);
        }
        self.elf(path, content)
    }

    /// The project's own programs were checked when they were read.
    fn is_own(&self, content: &[u8]) -> bool {
        [RUNNER_PATH, OTA_PATH, "/sbin/init"]
            .iter()
            .any(|path| bytes(self.tree, path).is_some_and(|own| own == content))
    }

    fn elf(&self, path: &str, content: &[u8]) -> Result<()> {
        if let Some(interpreter) = parsed(path, content)?.interpreter() {
            self.dynamic_linker(path, interpreter)?;
            self.libraries(path, interpreter)?;
        }
        Ok(())
    }

    fn dynamic_linker(&self, path: &str, interpreter: &str) -> Result<()> {
        let there = bytes(self.tree, interpreter);
        ensure!(
            there.is_some(),
            "{path} is started by the dynamic linker {interpreter}, which nothing puts on the root; \
             link it statically, or build it against Debian's C library"
        );
        Ok(())
    }

    fn libraries(&self, path: &str, interpreter: &str) -> Result<()> {
        let variable = self.workload.env.get("LD_LIBRARY_PATH").map_or("", |value| value.as_str());
        let first: Vec<&str> = variable.split([':', ';']).filter(|path| !path.is_empty()).collect();
        let mut missing = libraries::needs(self.tree, path, &first)?.missing;
        // The interpreter is one of the libraries itself; musl's is the whole C library.
        let linker = interpreter.rsplit('/').next().unwrap_or_default();
        let is_musl = linker.starts_with("ld-musl-");
        missing.retain(|library| {
            library.name != linker && !(is_musl && library.name.starts_with("libc."))
        });
        let more = missing.len().saturating_sub(NAMED);
        let named: Vec<String> = missing.iter().take(NAMED).map(describe).collect();
        ensure!(
            missing.is_empty(),
            "libraries are missing on the root: {}{}; add the Debian packages that have them ([debian] \
             `packages`; `dpkg -S NAME` says which), or the files ([[file]])",
            named.join(", "),
            if more > 0 { format!(" and {more} more") } else { String::new() }
        );
        Ok(())
    }

    /// The first line of a script: `#!`, the interpreter's path, and at most one argument
    /// (execve(2)).
    fn script(&self, path: &str, content: &[u8], depth: u32) -> Result<()> {
        let start = &content[2..content.len().min(SCRIPT_LINE)];
        let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        ensure!(
            !line.ends_with(b"\r"),
            "{path} has the line endings of Windows (CR LF): the device would look for an interpreter \
             whose name ends in CR; convert it with `sed -i 's/\\r$//' FILE`"
        );
        let line = std::str::from_utf8(line).ok().map(str::trim);
        let line = line.with_context(|| format!("{path} has a first line that is not text"))?;
        let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        ensure!(
            interpreter.starts_with('/'),
            "{path} begins with #!{line}, which does not name an interpreter by its whole path"
        );
        if self.tree.follow(interpreter).is_none() {
            bail!("{path} begins with #!{line}, and {}", self.absent(interpreter));
        }
        self.program(interpreter, depth + 1).with_context(|| format!("{path}, a script"))?;
        if interpreter.ends_with("/env") {
            self.found_by_env(path, line, argument.trim())?;
        }
        Ok(())
    }

    /// `#!/usr/bin/env NAME`: a program of that name in `PATH`.
    fn found_by_env(&self, script: &str, line: &str, argument: &str) -> Result<()> {
        let words = argument.split_whitespace();
        let Some(name) =
            words.into_iter().find(|word| !word.starts_with('-') && !word.contains('='))
        else {
            return Ok(());
        };
        let folders = self.workload.env.get("PATH").map_or(PATH, |path| path.as_str());
        let places = || folders.split(':').map(|folder| format!("{folder}/{name}"));
        match places().find(|place| self.tree.follow(place).is_some()) {
            Some(place) => self.program(&place, MAX_SCRIPTS - 1),
            None => bail!("{script} begins with #!{line}, and {}", self.absent(name)),
        }
    }

    /// That an interpreter is not there, and what brings it.
    fn absent(&self, interpreter: &str) -> String {
        let name = interpreter.rsplit('/').next().unwrap_or(interpreter);
        let package = match name {
            "sh" | "dash" => "dash",
            "bash" => "bash",
            "perl" => "perl-base",
            "env" => "coreutils",
            name if name.starts_with("python3") => "python3-minimal",
            _ => {
                return format!(
                    "nothing puts {interpreter} on the root; add the Debian package that has it"
                );
            }
        };
        format!(
            "nothing puts {interpreter} on the root; add the Debian package `{package}` ([debian] \
             `packages`)"
        )
    }

    /// `python3 /usr/lib/app.py`: the script that an interpreter is handed has to be there, too.
    fn script_argument(&self, command: &[Line]) -> Result<()> {
        let mut words = command.iter().map(|word| word.as_str());
        let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let is_interpreter = ["python3", "sh", "dash", "bash", "perl"].iter().any(|name| {
            program.strip_prefix(name).is_some_and(|rest| !rest.contains(char::is_alphabetic))
        });
        let Some(script) = words.next().filter(|word| is_interpreter && word.starts_with('/'))
        else {
            return Ok(());
        };
        let later = NOT_ON_THE_ROOT
            .iter()
            .any(|folder| script.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        ensure!(
            later || self.tree.follow(script).is_some(),
            "nothing puts {script} on the root, which {program} is to run; add it with [[file]]"
        );
        Ok(())
    }
}

fn describe(missing: &Missing) -> String {
    let Missing { name, by, instead } = missing;
    match instead {
        Instead::Nothing => format!("{name} (for {by})"),
        Instead::OtherProcessor(path) => {
            format!("{name} (for {by}; {path} is for another processor)")
        }
        Instead::WithoutVersion(version) => format!(
            "{name} with {version} (for {by}, which was built against a newer one than the image has)"
        ),
    }
}

/// The processor by which an ELF object's number names it, for people.
fn processor(machine: Option<u16>) -> String {
    match machine {
        Some(3) => "x86 with 32 bits (i386)".to_owned(),
        Some(40) => "ARM with 32 bits (armhf)".to_owned(),
        Some(62) => "x86_64 (amd64)".to_owned(),
        Some(183) => "aarch64 (arm64)".to_owned(),
        Some(243) => "RISC-V".to_owned(),
        Some(other) => format!("another processor (ELF's number {other})"),
        None => "no processor at all (it is cut off)".to_owned(),
    }
}

#[cfg(test)]
mod tests;
