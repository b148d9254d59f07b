//! Simple Network Time Protocol, client side (RFC 4330, with the checks of RFC 5905, appendix A.5.1).

use crate::clock::judge::Witness;

/// Bytes of a packet without authentication.
const PACKET: usize = 48;
/// Seconds from 1900 to 1970.
const TO_1970: i64 = 2_208_988_800;
/// Microseconds from a question to its answer; a later one is too vague.
const LONGEST_TRAVEL: i64 = 10_000_000;
/// Microseconds by which a server may say that it is wrong: MAXDISP of RFC 5905.
const MAX_DISTANCE: i64 = 16_000_000;
/// Microseconds that clocks differ by although everything was done right.
const LEAST_MARGIN: i64 = 20_000;

/// A question that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What stands in the transmit field; an answer must bring it back.
    cookie: u64,
    /// Our time when it was sent, in microseconds since 1970.
    sent: i64,
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The time.
    Time(Witness),
    /// Not to be asked so often (the kiss code RATE).
    AskLess,
    /// Not to be asked any more (DENY, RSTR).
    GoAway,
}

/// Makes a question. `cookie` are 64 bits that nobody can guess: an answer without them is not
/// taken. They stand where our own time would, which a server need not know.
pub fn question(cookie: u64, now: i64) -> ([u8; PACKET], Question) {
    let cookie = cookie.max(1);
    let mut packet = [0; PACKET];
    // No leap warning, version 4, client.
    packet[0] = 0x23;
    packet[40..48].copy_from_slice(&cookie.to_be_bytes());
    (packet, Question { cookie, sent: now })
}

/// What an answer that arrived at `now` says. `None` when it is not a server's sound answer to this
/// question.
pub fn read(question: &Question, answer: &[u8], now: i64) -> Option<Answer> {
    let answer: &[u8; PACKET] = answer.get(..PACKET)?.try_into().ok()?;
    let (leap, version, mode) = (answer[0] >> 6, answer[0] >> 3 & 7, answer[0] & 7);
    let stratum = answer[1];
    // Whoever cannot bring the cookie back has not seen the question, and has no say in anything.
    if answer[24..32] != question.cookie.to_be_bytes() || mode != 4 || !(3..=4).contains(&version) {
        return None;
    }
    if stratum == 0 {
        return match &answer[12..16] {
            b"RATE" => Some(Answer::AskLess),
            b"DENY" | b"RSTR" => Some(Answer::GoAway),
            _ => None,
        };
    }
    // Leap 3: the server itself does not know the time. From stratum 16 on neither.
    if leap == 3 || stratum > 15 {
        return None;
    }
    // Half the way to the clock that all of it comes from, and what it may have drifted by.
    let distance = short(&answer[4..8])? / 2 + short(&answer[8..12])?;
    let (received, sent) = (time(&answer[32..40])?, time(&answer[40..48])?);
    // Set after it was read, or set later than it answers.
    let since_set = time(&answer[16..24]).map_or(0, |set| sent - set);
    let travel = now.checked_sub(question.sent)?.checked_sub(sent - received)?;
    // A clock that was set in between, or a server that answers before it was asked.
    let sound = (0..LONGEST_TRAVEL).contains(&travel)
        && (0..=MAX_DISTANCE).contains(&distance)
        && sent >= received
        && since_set >= 0;
    if !sound {
        return None;
    }
    let there = received.checked_sub(question.sent)?;
    let back = sent.checked_sub(now)?;
    // Each is within some 2^52 of zero: 136 years in microseconds, and our own time.
    let offset = there.checked_add(back)? / 2;
    let margin = distance + travel / 2 + LEAST_MARGIN;
    Some(Answer::Time(Witness { offset, margin }))
}

/// The NTP short format, 16.16 bits of seconds, as microseconds.
fn short(bytes: &[u8]) -> Option<i64> {
    let value = i32::from_be_bytes(bytes.try_into().ok()?);
    Some((i64::from(value) * 1_000_000) >> 16)
}

/// An NTP timestamp as microseconds since 1970. Seconds without the top bit lie in the era that
/// begins in 2036 (section 3).
fn time(bytes: &[u8]) -> Option<i64> {
    let seconds = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let fraction = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    if seconds == 0 && fraction == 0 {
        return None;
    }
    let era = if seconds >> 31 == 0 { 1 << 32 } else { 0 };
    let microseconds = (i64::from(fraction) * 1_000_000) >> 32;
    Some((i64::from(seconds) + era - TO_1970) * 1_000_000 + microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000_000;

    fn offset(question: &Question, answer: &[u8], now: i64) -> Option<i64> {
        match read(question, answer, now) {
            Some(Answer::Time(witness)) => Some(witness.offset),
            _ => None,
        }
    }

    fn answer(question: &Question, received: i64, sent: i64) -> [u8; PACKET] {
        let stamp = |time: i64| -> [u8; 8] {
            let seconds = (time.div_euclid(1_000_000) + TO_1970) as u32;
            let fraction = ((time.rem_euclid(1_000_000) << 32) / 1_000_000) as u32;
            (u64::from(seconds) << 32 | u64::from(fraction)).to_be_bytes()
        };
        let mut packet = [0; PACKET];
        packet[0] = 0x24;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&question.cookie.to_be_bytes());
        packet[32..40].copy_from_slice(&stamp(received));
        packet[40..48].copy_from_slice(&stamp(sent));
        packet
    }

    #[test]
    fn the_path_there_and_back_cancels_out() {
        let (_, question) = question(7, NOW);
        // The server is 5 s ahead, the path takes 40 ms each way, the server 10 ms.
        let packet = answer(&question, NOW + 5_040_000, NOW + 5_050_000);
        let offset = offset(&question, &packet, NOW + 90_000).unwrap();
        assert!((offset - 5_000_000).abs() < 5, "{offset}");
    }

    #[test]
    fn times_after_2036_are_understood() {
        let late = 2_150_000_000_000_000;
        let (_, question) = question(7, late);
        let packet = answer(&question, late, late);
        assert!(offset(&question, &packet, late).unwrap().abs() < 5);
    }

    #[test]
    fn answers_that_are_not_ours_or_not_sound_are_refused() {
        let (_, question) = question(7, NOW);
        let good = answer(&question, NOW, NOW);
        assert!(offset(&question, &good, NOW).is_some());
        // The leap, the mode, the version, the stratum, the cookie, delay and dispersion.
        for (at, value) in [
            (0, 0xe4),
            (0, 0x23),
            (0, 0x0c),
            (1, 0),
            (1, 16),
            (31, 0),
            (4, 0x80),
            (5, 0x40),
            (8, 0x80),
            (9, 0x11),
        ] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(offset(&question, &bad, NOW), None, "byte {at} = {value:#x}");
        }
        assert_eq!(offset(&question, &good[..47], NOW), None);
    }

    #[test]
    fn a_server_that_was_set_after_it_answered_is_refused() {
        let (_, question) = question(7, NOW);
        let mut packet = answer(&question, NOW, NOW);
        packet[16..24].copy_from_slice(&answer(&question, NOW - 1_000_000, NOW)[32..40]);
        assert!(offset(&question, &packet, NOW).is_some());
        packet[16..24].copy_from_slice(&answer(&question, NOW + 1_000_000, NOW)[32..40]);
        assert_eq!(offset(&question, &packet, NOW), None);
        let packet = answer(&question, NOW + 1_000_000, NOW);
        assert_eq!(offset(&question, &packet, NOW), None, "sent before it was asked");
    }

    #[test]
    fn what_a_server_says_of_its_own_errors_is_its_margin() {
        let (_, question) = question(7, NOW);
        let mut packet = answer(&question, NOW, NOW);
        // A delay of 2 s and a dispersion of 1 s, and 100 ms on the path.
        (packet[5], packet[9]) = (2, 1);
        let Some(Answer::Time(witness)) = read(&question, &packet, NOW + 100_000) else {
            panic!("not taken")
        };
        assert_eq!(witness.margin, 1_000_000 + 1_000_000 + 50_000 + LEAST_MARGIN);
    }

    #[test]
    fn the_kiss_of_death_counts_from_who_has_seen_the_question() {
        let (_, question) = question(7, NOW);
        let kiss = |code: &[u8; 4]| {
            let mut packet = answer(&question, NOW, NOW);
            packet[0] = 0xe4;
            packet[1] = 0;
            packet[12..16].copy_from_slice(code);
            packet
        };
        let read = |packet: &[u8]| read(&question, packet, NOW);
        assert_eq!(read(&kiss(b"RATE")), Some(Answer::AskLess));
        assert_eq!(read(&kiss(b"DENY")), Some(Answer::GoAway));
        assert_eq!(read(&kiss(b"RSTR")), Some(Answer::GoAway));
        assert_eq!(read(&kiss(b"STEP")), None);
        let mut forged = kiss(b"DENY");
        forged[31] ^= 1;
        assert_eq!(read(&forged), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (_, question) = question(0, NOW);
            let _ = read(&question, &bytes, NOW);
        }

        #[test]
        fn any_times_never_panic(received: u64, sent: u64, asked: i64, now: i64) {
            let (_, question) = question(9, asked);
            let mut packet = answer(&question, NOW, NOW);
            packet[32..40].copy_from_slice(&received.to_be_bytes());
            packet[40..48].copy_from_slice(&sent.to_be_bytes());
            let _ = read(&question, &packet, now);
        }
    }
}
