//! The writing half against a fetching half that was taken over: whatever comes over the socket,
//! nothing is written that is not signed for this device, and nothing is armed that is not whole.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::writer::{WriterThread, short};
use crate::support::{
    CHUNK, Delta, Fault, Recipe, Server, TestDevice, Update, publish_beside, recipe,
};
use formats::Slot;
use formats::medium::{Access, Medium, Partitions};
use ota::context::Context;
use ota::data_folder::Folder;
use ota::writer::session::{SessionTimeouts, serve};
use ota::writer::wire::{self, Answer, Ask};

const WAIT: Duration = Duration::from_secs(20);

/// A connection to the writer of a device, in the hands of whoever took the other half over.
struct Attacker {
    stream: UnixStream,
    writer: JoinHandle<Result<Option<String>, ota::Error>>,
}

impl Attacker {
    fn of(device: &TestDevice) -> Attacker {
        Attacker::with_timeouts(device, short())
    }

    fn with_timeouts(device: &TestDevice, timeouts: SessionTimeouts) -> Attacker {
        let (stream, theirs) = UnixStream::pair().unwrap();
        let handle = device.handle.clone();
        let writer = std::thread::spawn(move || {
            serve(&Context::load(&handle).unwrap(), &theirs, timeouts, &|| ())
        });
        wire::prepare(&stream).unwrap();
        let attacker = Attacker { stream, writer };
        assert_eq!(attacker.answer(), Answer::Done(wire::HELLO.to_vec()));
        attacker
    }

    fn answer(&self) -> Answer {
        loop {
            match wire::read_answer(&self.stream, WAIT, &|| ()).unwrap() {
                Answer::Working => {}
                answer => return answer,
            }
        }
    }

    fn ask(&self, ask: Ask, body: &[&[u8]]) -> Answer {
        wire::send_ask(&self.stream, ask, body).unwrap();
        self.answer()
    }

    /// Asks for something that must be refused; gives the reason.
    fn refused(&self, ask: Ask, body: &[&[u8]]) -> String {
        // It may hang up before all of it is sent.
        let _ = wire::send_ask(&self.stream, ask, body);
        match self.answer() {
            Answer::Refused(reason) | Answer::Failed(reason) => reason,
            other => panic!("{ask:?} was taken: {other:?}"),
        }
    }

    fn done(&self, ask: Ask, body: &[&[u8]]) -> Vec<u8> {
        match self.ask(ask, body) {
            Answer::Done(body) => body,
            other => panic!("{ask:?}: {other:?}"),
        }
    }

    /// The head of an update that is good.
    fn head(&self, update: &Update) {
        self.done(Ask::Header, &[&update.header]);
        self.done(Ask::Table, &[&update.table.to_bytes()]);
    }

    fn put(&self, number: u32, bytes: &[u8]) -> Vec<u8> {
        self.done(Ask::Put, &[&number.to_le_bytes(), bytes])
    }

    /// Hangs up; what the writer made of it.
    fn end(self) -> Result<Option<String>, ota::Error> {
        drop(self.stream);
        self.writer.join().unwrap()
    }
}

fn chunk(update: &Update, index: usize) -> &[u8] {
    let range = update.table.stream_range(index);
    &update.stream[range.start as usize..range.end as usize]
}

/// Nothing is armed, the running slot is as it was, and the idle one is not taken for whole.
fn unharmed(device: &TestDevice) {
    assert!(device.holds(Slot::A, &recipe(1).build()));
    let boot = device.boot();
    assert_eq!((boot.trial, boot.active), (None, Slot::A));
    let root = std::fs::read(device.handle.device("root-b")).unwrap();
    let header = &root[root.len() - formats::manifest::HEADER_SIZE..];
    assert!(header.iter().all(|b| *b == 0) || header.iter().all(|b| *b == 0xA5), "a header");
    // And the next one who comes can install.
    let two = recipe(2).build();
    let (_writer, handle) = WriterThread::start(&device.handle);
    let resource = ota::fetch::resource::Resource::File(device.path("stick.update"));
    device.put("stick.update", &two.bytes);
    let offer = ota::install::UpdateSource { resource, signed: None };
    ota::install::install(&Context::load(&handle).unwrap(), &offer, 3, &|| ()).unwrap();
    assert!(device.holds(Slot::B, &two));
    assert_eq!((device.boot().trial, device.boot().tries), (Some(Slot::B), 3));
}

#[test]
fn what_is_not_signed_for_this_device_is_refused_before_the_slot_is_touched() {
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[66; 32]);
    for (recipe, reason) in [
        (Recipe { board: "raspi", ..recipe(2) }, "it is for board raspi"),
        (Recipe { name: "other", ..recipe(2) }, "it is an image named other"),
        (recipe(1), "not above 1, which runs"),
        (recipe(0), "not above 1, which runs"),
        (Recipe { root_size: 4 << 20, ..recipe(2) }, "larger than the root partition"),
        (Recipe { key: stranger, ..recipe(2) }, "not signed by a trusted key"),
    ] {
        let device = TestDevice::new();
        let before = device.medium();
        let attacker = Attacker::of(&device);
        let error = attacker.refused(Ask::Header, &[&recipe.build().header]);
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(attacker.end().is_err());
        assert!(device.medium() == before, "{reason}: something was written");
    }
}

#[test]
fn a_version_below_the_floor_is_refused_whatever_the_other_half_wrote_down() {
    let device = TestDevice::new();
    let running = Recipe { rollback_floor: 5, ..recipe(1) }.build();
    device.place(Slot::A, &running);
    device.boot_into(Slot::A, &running.manifest, false, false);
    let attacker = Attacker::of(&device);
    let error = attacker.refused(Ask::Header, &[&recipe(4).build().header]);
    assert!(error.contains("below the floor 5"), "{error}");
}

#[test]
fn nothing_is_written_during_a_trial() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    device.install_file(&two.bytes).unwrap();
    device.boot_into(Slot::B, &two.manifest, true, false);
    let before = device.medium();
    let error = Attacker::of(&device).refused(Ask::Header, &[&recipe(3).build().header]);
    assert!(error.contains("not committed"), "{error}");
    assert!(device.medium() == before);
}

#[test]
fn another_table_than_the_signed_one_is_refused() {
    let (two, three) = (recipe(2).build(), recipe(3).build());
    let other = three.table.to_bytes();
    let mut longer = two.table.to_bytes();
    longer.extend([0; 36]);
    for table in [&other[..], &longer, &[]] {
        let device = TestDevice::new();
        let before = device.medium();
        let attacker = Attacker::of(&device);
        attacker.done(Ask::Header, &[&two.header]);
        attacker.refused(Ask::Table, &[table]);
        assert!(device.medium() == before);
    }
}

#[test]
fn a_chunk_that_is_not_the_signed_one_is_not_written() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let attacker = Attacker::of(&device);
    attacker.head(&two);
    attacker.done(Ask::Prepare, &[]);
    let before = device.medium();
    let mut altered = chunk(&two, 3).to_vec();
    altered[77] ^= 1;
    assert_eq!(attacker.put(3, &altered), [0], "altered");
    assert_eq!(attacker.put(4, chunk(&two, 3)), [0], "another one's bytes");
    assert!(device.medium() == before, "something was written");
    assert_eq!(attacker.put(3, chunk(&two, 3)), [1], "the right one");
    let error = attacker.refused(Ask::Finish, &[&[3]]);
    assert!(error.contains("chunks are missing; nothing was armed"), "{error}");
    assert!(attacker.end().is_err());
    unharmed(&device);
}

#[test]
fn a_chunk_that_is_there_is_not_written_again() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let attacker = Attacker::of(&device);
    attacker.head(&two);
    attacker.done(Ask::Prepare, &[]);
    assert_eq!(attacker.put(3, chunk(&two, 3)), [1]);
    // A medium on which it changed since: another write would make it right again.
    let at = 3 * CHUNK - two.manifest.boot_size;
    device.flip("root-b", &[at]);
    let before = device.medium();
    for _ in 0..3 {
        assert_eq!(attacker.put(3, chunk(&two, 3)), [1]);
    }
    assert!(device.medium() == before, "it was written again");
}

#[test]
fn what_is_out_of_order_or_out_of_bounds_ends_the_connection() {
    let two = recipe(2).build();
    let three = chunk(&two, 3);
    let number = 3u32.to_le_bytes();
    let far = (two.table.chunks().len() as u32).to_le_bytes();
    let cases: [(_, _, _, _, Vec<&[u8]>); 18] = [
        ("a chunk before the header", false, false, Ask::Put, vec![&number, three]),
        ("arming before the header", false, false, Ask::Finish, vec![&[3]]),
        ("preparing before the header", false, false, Ask::Prepare, vec![]),
        ("the table before the header", false, false, Ask::Table, vec![&[0; 36]]),
        ("a chunk before the slot is prepared", true, false, Ask::Put, vec![&number, three]),
        ("arming before the slot is prepared", true, false, Ask::Finish, vec![&[3]]),
        ("a second header", true, true, Ask::Header, vec![&two.header]),
        ("a second table", true, true, Ask::Table, vec![&[0; 36]]),
        ("preparing twice", true, true, Ask::Prepare, vec![]),
        ("arming with nothing there", true, true, Ask::Finish, vec![&[3]]),
        ("a chunk that there is not", true, true, Ask::Put, vec![&far, three]),
        ("a chunk of u32::MAX", true, true, Ask::Put, vec![&[0xff; 4], three]),
        ("a chunk too short", true, true, Ask::Put, vec![&number, &three[1..]]),
        ("a chunk too long", true, true, Ask::Put, vec![&number, three, three]),
        ("a chunk without a number", true, true, Ask::Put, vec![&[0, 0, 0]]),
        ("a flush with a body", true, true, Ask::Flush, vec![&[1]]),
        ("arming without tries", true, true, Ask::Finish, vec![]),
        ("arming with two bytes", true, true, Ask::Finish, vec![&[1, 1]]),
    ];
    for (what, head, prepared, ask, body) in cases {
        let device = TestDevice::new();
        let attacker = Attacker::of(&device);
        if head {
            attacker.head(&two);
        }
        if prepared {
            attacker.done(Ask::Prepare, &[]);
        }
        let before = device.medium();
        let error = attacker.refused(ask, &body);
        assert!(!error.is_empty() && !error.contains('\n'), "{what}: {error}");
        assert!(attacker.end().is_err(), "{what}");
        assert!(device.medium() == before, "{what}: something was written");
        unharmed(&device);
    }
}

#[test]
fn lengths_that_no_update_has_take_no_memory_and_no_time() {
    for frame in [[1, 0xff, 0xff, 0xff, 0xff], [4, 0xff, 0xff, 0xff, 0x7f], [9, 0, 0, 0, 0]] {
        let device = TestDevice::new();
        let attacker = Attacker::of(&device);
        (&attacker.stream).write_all(&frame).unwrap();
        assert!(matches!(attacker.answer(), Answer::Failed(_)), "{frame:?}");
        assert!(attacker.end().is_err());
        unharmed(&device);
    }
}

#[test]
fn nothing_comes_after_the_trial_was_armed() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let attacker = Attacker::of(&device);
    attacker.head(&two);
    let missing = attacker.done(Ask::Prepare, &[]);
    let chunks = two.table.chunks().len();
    for index in wire::from_bits(&missing, chunks).unwrap() {
        assert_eq!(attacker.put(index as u32, chunk(&two, index)), [1]);
    }
    attacker.done(Ask::Finish, &[&[0]]);
    let before = device.medium();
    let number = 0u32.to_le_bytes();
    let _ = wire::send_ask(&attacker.stream, Ask::Put, &[&number, chunk(&two, 0)]);
    assert!(wire::read_answer(&attacker.stream, WAIT, &|| ()).is_err(), "it was answered");
    assert_eq!(attacker.end(), Ok(Some("1.0.2".into())));
    assert!(device.medium() == before && device.holds(Slot::B, &two));
    assert_eq!((device.boot().trial, device.boot().tries), (Some(Slot::B), 1), "0 tries are one");
}

#[test]
fn whoever_hangs_up_or_hangs_in_the_middle_leaves_nothing_that_boots() {
    let two = recipe(2).build();
    let steps: [&dyn Fn(&Attacker); 6] = [
        &|_| (),
        &|a| drop(a.done(Ask::Header, &[&two.header])),
        &|a| drop(a.done(Ask::Table, &[&two.table.to_bytes()])),
        &|a| drop(a.done(Ask::Prepare, &[])),
        &|a| drop(a.put(0, chunk(&two, 0))),
        // Half a chunk.
        &|a| {
            let head = [4, 4, 0, 1, 0];
            (&a.stream).write_all(&head).unwrap();
            (&a.stream).write_all(&[0; 1000]).unwrap();
        },
    ];
    for last in 0..steps.len() {
        let device = TestDevice::new();
        let attacker = Attacker::of(&device);
        steps[..=last].iter().for_each(|step| step(&attacker));
        let _ = attacker.end();
        unharmed(&device);
    }
    // One that stays and says nothing is not waited for for ever.
    for last in [1, 5] {
        let device = TestDevice::new();
        let timeouts = SessionTimeouts {
            request: Duration::from_millis(100),
            rest: Duration::from_millis(100),
        };
        let attacker = Attacker::with_timeouts(&device, timeouts);
        steps[..=last].iter().for_each(|step| step(&attacker));
        let error = attacker.writer.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("nothing came in time"), "{error}");
        unharmed(&device);
    }
}

/// Data that comes without a pause leaves no read waiting: the heart has to beat all the same.
#[test]
fn an_installer_that_never_pauses_lets_the_heart_beat() {
    let device = TestDevice::new();
    let two = recipe(2).build();
    let (stream, theirs) = UnixStream::pair().unwrap();
    let (handle, beats) = (device.handle.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = beats.clone();
    let writer = std::thread::spawn(move || {
        let beat = || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        serve(&Context::load(&handle).unwrap(), &theirs, short(), &beat)
    });
    wire::prepare(&stream).unwrap();
    let installer = Attacker { stream, writer };
    assert_eq!(installer.answer(), Answer::Done(wire::HELLO.to_vec()));
    installer.head(&two);
    installer.done(Ask::Prepare, &[]);
    let before = beats.load(Ordering::SeqCst);
    for index in 0..two.table.chunks().len() {
        assert_eq!(installer.put(index as u32, chunk(&two, index)), [1]);
    }
    let heard = beats.load(Ordering::SeqCst) - before;
    assert!(heard >= two.table.chunks().len(), "{heard} beats");
    assert_eq!(installer.end(), Ok(None));
}

/// A card whose every flush of the root partition takes its time.
#[derive(Debug)]
struct SlowCard(Arc<dyn Partitions>);

#[derive(Debug)]
struct SlowPartition(Box<dyn Medium>);

/// What a flush of it takes.
const SLOW_FLUSH: Duration = Duration::from_millis(2500);

impl Partitions for SlowCard {
    fn open(&self, label: &str, access: Access) -> io::Result<Box<dyn Medium>> {
        let medium = self.0.open(label, access)?;
        Ok(if label == "root-b" { Box::new(SlowPartition(medium)) } else { medium })
    }

    fn path(&self, label: &str) -> PathBuf {
        self.0.path(label)
    }
}

impl Medium for SlowPartition {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        std::thread::sleep(SLOW_FLUSH);
        self.0.flush()
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.0.forget_cached()
    }
}

/// A flush cannot be interrupted: the heart beats beside it, and the other end hears that the writer
/// is at work.
#[test]
fn a_slow_card_lets_the_heart_beat_while_it_flushes() {
    let mut device = TestDevice::new();
    let partitions = Arc::new(SlowCard(device.handle.partitions().clone()));
    let folder = Arc::new(Folder::new(device.handle.data()));
    device.handle = device.handle.clone().on(partitions, folder);
    let two = recipe(2).build();
    let (stream, theirs) = UnixStream::pair().unwrap();
    let (handle, beats) = (device.handle.clone(), Arc::new(Mutex::new(Vec::new())));
    let heard = beats.clone();
    let writer = std::thread::spawn(move || {
        serve(&Context::load(&handle).unwrap(), &theirs, short(), &|| {
            heard.lock().unwrap().push(Instant::now())
        })
    });
    wire::prepare(&stream).unwrap();
    let installer = Attacker { stream, writer };
    assert_eq!(installer.answer(), Answer::Done(wire::HELLO.to_vec()));
    installer.head(&two);
    let begun = Instant::now();
    installer.done(Ask::Prepare, &[]);
    for index in 0..two.table.chunks().len() {
        assert_eq!(installer.put(index as u32, chunk(&two, index)), [1]);
    }
    wire::send_ask(&installer.stream, Ask::Flush, &[]).unwrap();
    let first = wire::read_answer(&installer.stream, WAIT, &|| ()).unwrap();
    assert_eq!((first, installer.answer()), (Answer::Working, Answer::Done(vec![])));
    installer.done(Ask::Finish, &[&[3]]);
    let end = Instant::now();
    assert!(end - begun >= 4 * SLOW_FLUSH, "it did not flush: {:?}", end - begun);
    assert_eq!(installer.end(), Ok(Some("1.0.2".into())));
    let mut times: Vec<_> = beats.lock().unwrap().clone();
    times.retain(|at| (begun..end).contains(at));
    times.insert(0, begun);
    times.push(end);
    let silence = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(silence < SLOW_FLUSH, "nothing was heard for {silence:?}");
    assert_eq!(device.boot().trial, Some(Slot::B));
}

/// All chunk sources, with the slot behind the socket: the same bytes end up in it, and no more is fetched.
#[test]
fn every_chunk_source_leads_through_the_socket() {
    let (one, two) = (recipe(1).build(), recipe(2).build());
    let mut alike = one.covered().to_vec();
    alike[CHUNK as usize * 8..][..CHUNK as usize * 3].rotate_left(4096);
    let near = recipe(2).build_of(alike);
    let delta = Delta::of(&one, &near);
    let index = near.index();
    for (update, delta, index) in
        [(&two, None, None), (&near, Some(&delta), None), (&near, None, Some(&index[..]))]
    {
        let served = [false, true].map(|split| {
            let mut device = TestDevice::new();
            let files = publish_beside(update, delta, index);
            device.put("etc/ferrite/tuf-root.json", &files["metadata/1.root.json"]);
            let server = Server::of_files(files).unwrap();
            let writer = split.then(|| WriterThread::start(&device.handle));
            if let Some((_, handle)) = &writer {
                device.handle = handle.clone();
            }
            assert_eq!(device.update_from(&server.url()), Ok(true));
            assert!(device.holds(Slot::B, update));
            assert_eq!(device.boot().trial, Some(Slot::B));
            server.sent()
        });
        assert_eq!(served[0], served[1], "bytes served in one process and in two");
    }
}

#[test]
fn a_payload_that_arrives_altered_is_told_as_before() {
    let mut device = TestDevice::new();
    let update = recipe(2).build();
    let (server, url) = update.serve();
    server.spoil(".update", Fault::Altered(update.bytes.len() as u64 - 1));
    let (_writer, handle) = WriterThread::start(&device.handle);
    device.handle = handle;
    let error = device.install_url(&url).unwrap_err().to_string();
    assert!(error.contains("arrived altered"), "{error}");
    assert!(device.header_is_zero(Slot::B) && device.boot().trial.is_none());
    let error = device.install_file(&recipe(1).build().bytes).unwrap_err().to_string();
    assert!(error.starts_with("refused 1.0.1: "), "{error}");
}

#[test]
fn a_writer_that_is_not_there_is_named_with_the_next_step() {
    let mut device = TestDevice::new();
    let handle = device.handle.clone().writing(ota::device::WriterDoor::SocketOrHere);
    device.put("stick.update", recipe(2).build().bytes);
    let resource = ota::fetch::resource::Resource::File(device.path("stick.update"));
    let offer = ota::install::UpdateSource { resource, signed: None };
    // A person's shell does it by itself.
    ota::install::install(&Context::load(&handle).unwrap(), &offer, 3, &|| ()).unwrap();
    assert_eq!(device.boot().trial, Some(Slot::B));

    // Somebody else's socket is none.
    let socket = device.handle.writer_socket();
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"220 mail server ready\r\n");
    });
    device.handle = handle.writing(ota::device::WriterDoor::Socket);
    let error = device.install_file(&recipe(3).build().bytes).unwrap_err().to_string();
    assert!(error.contains("ota-writer/socket"), "{error}");
}
