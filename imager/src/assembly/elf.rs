//! ELF objects (System V gABI, chapters 4 and 5): 64-bit, little endian. What the kernel and the
//! dynamic linker read are segments; sections are for other tools, and for kernel modules.

/// `p_type` of a loaded segment, of the dynamic section and of the interpreter's path.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// `d_tag`s: the end, a needed library, where and how long the names are, and where to look for
/// libraries (the older tag and the newer one).
const END: u64 = 0;
const NEEDED: u64 = 1;
const NAMES: u64 = 5;
const NAMES_SIZE: u64 = 10;
const RUN_PATHS: [u64; 2] = [15, 29];
/// The same for the versions that it needs of libraries (Linux Standard Base 5.0, 10.7.2).
const VERSIONS: u64 = 0x6FFF_FFFE;
/// And for those that it defines (10.7.1).
const DEFINED: u64 = 0x6FFF_FFFC;
/// A version that need not be there.
const WEAK: u16 = 2;
/// More entries than a dynamic section has.
const MOST_ENTRIES: usize = 4096;

/// The number by which ELF names the processor that an object is for, `e_machine`; `None` when it is
/// no ELF object.
pub fn machine(elf: &[u8]) -> Option<u16> {
    if !elf.starts_with(b"\x7FELF") {
        return None;
    }
    Some(u16::from_le_bytes(elf.get(18..20)?.try_into().ok()?))
}

/// An executable or a shared library, as the kernel and the dynamic linker see it.
pub struct Object<'a> {
    bytes: &'a [u8],
    segments: Vec<Segment>,
}

/// One program header.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    length: u64,
}

impl<'a> Object<'a> {
    /// Reads the program headers; `None` when the object is for 32 bits, damaged or cut off.
    pub fn parse(elf: &'a [u8]) -> Option<Object<'a>> {
        const CLASS64_LITTLE: &[u8] = b"\x7FELF\x02\x01";
        if !elf.starts_with(CLASS64_LITTLE) {
            return None;
        }
        let (table, size, count) = (u64_at(elf, 32)?, u16_at(elf, 54)?, u16_at(elf, 56)?);
        let mut segments = Vec::new();
        for index in 0..u64::from(count) {
            let at = table.checked_add(index * u64::from(size))?;
            let at = usize::try_from(at).ok()?;
            let segment = Segment {
                kind: u32_at(elf, at)?,
                offset: u64_at(elf, at.checked_add(8)?)?,
                address: u64_at(elf, at.checked_add(16)?)?,
                length: u64_at(elf, at.checked_add(32)?)?,
            };
            part(elf, segment.offset, segment.length)?;
            segments.push(segment);
        }
        let loads = segments.iter().any(|segment| segment.kind == LOAD);
        loads.then_some(Object { bytes: elf, segments })
    }

    /// The path of its interpreter, the dynamic linker; none where it is linked statically.
    pub fn interpreter(&self) -> Option<&'a str> {
        text(self.segment(INTERPRETER)?)
    }

    /// The names of the libraries that it needs.
    pub fn needed(&self) -> Vec<&'a str> {
        self.texts(&[NEEDED])
    }

    /// The folders that it has libraries looked for in, with `$ORIGIN` as it stands there.
    pub fn run_paths(&self) -> Vec<&'a str> {
        self.texts(&RUN_PATHS).into_iter().flat_map(|paths| paths.split(':')).collect()
    }

    /// The versions that it needs of libraries, each with the library's name.
    pub fn versions(&self) -> Vec<(&'a str, &'a str)> {
        let mut found = Vec::new();
        let _ = self.read_versions(&mut found);
        found
    }

    /// `Elf64_Verneed` and its `Elf64_Vernaux`, as far as they can be read.
    fn read_versions(&self, found: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
        let entries = self.entries();
        let names = self.names(&entries)?;
        let name = |at: u32| text(names.get(at as usize..)?);
        let mut at = self.file_offset(value(&entries, VERSIONS)?)? as usize;
        while found.len() < MOST_ENTRIES {
            let library = name(u32_at(self.bytes, at + 4)?)?;
            let mut version = at + u32_at(self.bytes, at + 8)? as usize;
            for _ in 0..u16_at(self.bytes, at + 2)? {
                if u16_at(self.bytes, version + 4)? & WEAK == 0 {
                    found.push((library, name(u32_at(self.bytes, version + 8)?)?));
                }
                version = version.checked_add(u32_at(self.bytes, version + 12)? as usize)?;
            }
            match u32_at(self.bytes, at + 12)? {
                0 => break,
                next => at = at.checked_add(next as usize)?,
            }
        }
        Some(())
    }

    /// Whether a version stands among its names, as those that a library defines do. One that defines
    /// none at all is taken for all of them, as the dynamic linker does.
    pub fn names_version(&self, version: &str) -> bool {
        let entries = self.entries();
        let names = self.names(&entries).unwrap_or_default();
        value(&entries, DEFINED).is_none()
            || names.split(|byte| *byte == 0).any(|name| name == version.as_bytes())
    }

    fn segment(&self, kind: u32) -> Option<&'a [u8]> {
        let segment = self.segments.iter().find(|segment| segment.kind == kind)?;
        part(self.bytes, segment.offset, segment.length)
    }

    /// Tags and values of the dynamic section.
    fn entries(&self) -> Vec<(u64, u64)> {
        let dynamic = self.segment(DYNAMIC).unwrap_or_default();
        let word = |bytes: &[u8], at| u64_at(bytes, at).unwrap_or(END);
        let entries = dynamic.chunks_exact(16).map(|entry| (word(entry, 0), word(entry, 8)));
        entries.take_while(|(tag, _)| *tag != END).take(MOST_ENTRIES).collect()
    }

    /// The texts that the entries with one of these tags name.
    fn texts(&self, tags: &[u64]) -> Vec<&'a str> {
        let entries = self.entries();
        let Some(names) = self.names(&entries) else { return Vec::new() };
        let wanted = entries.iter().filter(|(tag, _)| tags.contains(tag));
        wanted.filter_map(|(_, at)| text(names.get(usize::try_from(*at).ok()?..)?)).collect()
    }

    /// The table of names.
    fn names(&self, entries: &[(u64, u64)]) -> Option<&'a [u8]> {
        let place = self.file_offset(value(entries, NAMES)?)?;
        part(self.bytes, place, value(entries, NAMES_SIZE)?)
    }

    /// Where in the file an address of the running program comes from.
    fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.length).then(|| segment.offset.checked_add(inside))?
        })
    }
}

/// The value of the first entry with this tag.
fn value(entries: &[(u64, u64)], wanted: u64) -> Option<u64> {
    entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
}

/// The text up to the first NUL.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok().filter(|text| !text.is_empty())
}

fn part(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The bytes of the section named `wanted`; `None` when there is none or the object is damaged.
pub fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    const CLASS64_LITTLE: &[u8] = b"\x7FELF\x02\x01";
    if !elf.starts_with(CLASS64_LITTLE) {
        return None;
    }
    let (table, entry_size, count, names_index) =
        (u64_at(elf, 40)?, u16_at(elf, 58)?, u16_at(elf, 60)?, u16_at(elf, 62)?);
    let header = |index: u16| {
        let at = table.checked_add(u64::from(index) * u64::from(entry_size))?;
        usize::try_from(at).ok()
    };
    let body = |header: usize| {
        let start = u64_at(elf, header.checked_add(24)?)?;
        part(elf, start, u64_at(elf, header.checked_add(32)?)?)
    };
    let names = body(header(names_index)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(u32_at(elf, header)? as usize..)?.split(|byte| *byte == 0).next()?;
        (name == wanted).then(|| body(header))?
    })
}

/// Objects for tests.
#[cfg(test)]
pub mod made {
    use super::*;

    /// An object for arm64 with this interpreter, libraries and folders to look for them in: one
    /// loaded segment over the whole file.
    pub fn object(
        interpreter: Option<&str>,
        libraries: &[&str],
        run_path: Option<&str>,
    ) -> Vec<u8> {
        let (mut names, mut entries) = (vec![0], Vec::new());
        let tagged = libraries.iter().map(|name| (NEEDED, *name));
        for (tag, name) in tagged.chain(run_path.map(|path| (RUN_PATHS[1], path))) {
            entries.extend([tag, names.len() as u64]);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        let interpreter = interpreter.map(|path| format!("{path}\0").into_bytes());
        let count = 2 + u64::from(interpreter.is_some());
        let names_at = 64 + 56 * count;
        let path_at = names_at + names.len() as u64;
        let path = interpreter.clone().unwrap_or_default();
        let dynamic_at = path_at + path.len() as u64;
        entries.extend([NAMES, names_at, NAMES_SIZE, names.len() as u64, END, 0]);
        let entries: Vec<u8> = entries.into_iter().flat_map(u64::to_le_bytes).collect();
        let end = dynamic_at + entries.len() as u64;

        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
        elf[16..20].copy_from_slice(&[3, 0, 183, 0]);
        elf[32..40].copy_from_slice(&64u64.to_le_bytes());
        elf[54..58].copy_from_slice(&[56, 0, count as u8, 0]);
        let mut segment = |kind: u32, offset: u64, length: u64| {
            elf.extend_from_slice(&kind.to_le_bytes());
            elf.extend_from_slice(&5u32.to_le_bytes());
            for word in [offset, offset, offset, length, length, 4096] {
                elf.extend_from_slice(&word.to_le_bytes());
            }
        };
        segment(LOAD, 0, end);
        segment(DYNAMIC, dynamic_at, entries.len() as u64);
        if interpreter.is_some() {
            segment(INTERPRETER, path_at, path.len() as u64);
        }
        [elf, names, path, entries].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dynamic_linker_needs_is_in_the_segments() {
        let path = Some("$ORIGIN/../lib:/opt/lib");
        let elf = made::object(Some("/lib/ld-linux-aarch64.so.1"), &["liba.so", "libc.so.6"], path);
        let object = Object::parse(&elf).unwrap();
        assert_eq!(object.interpreter(), Some("/lib/ld-linux-aarch64.so.1"));
        assert_eq!(object.needed(), ["liba.so", "libc.so.6"]);
        assert_eq!(object.run_paths(), ["$ORIGIN/../lib", "/opt/lib"]);
        assert_eq!(machine(&elf), Some(183));
        for length in 0..elf.len() {
            assert!(Object::parse(&elf[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn this_test_itself_is_read_as_the_linker_reads_it() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let object = Object::parse(&own).unwrap();
        assert!(object.interpreter().unwrap().starts_with("/lib"));
        assert!(object.needed().contains(&"libc.so.6"), "{:?}", object.needed());
        let versions = object.versions();
        let of_libc = versions.iter().find(|(library, _)| *library == "libc.so.6").unwrap();
        assert!(of_libc.1.starts_with("GLIBC_2."), "{versions:?}");
        assert!(object.names_version("any"), "a program defines none");
        let libc = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = libc
            .lines()
            .find_map(|line| line.split(' ').rfind(|word| word.ends_with("/libc.so.6")));
        let libc = std::fs::read(libc.unwrap()).unwrap();
        let libc = Object::parse(&libc).unwrap();
        assert!(libc.names_version(of_libc.1) && !libc.names_version("GLIBC_9.99"));
    }
}
