//! Simple Network Time Protocol, client side (RFC 4330).

/// Bytes of a packet without authentication.
const PACKET: usize = 48;
/// Seconds from 1900 to 1970.
const TO_1970: i64 = 2_208_988_800;

/// A question that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What stands in the transmit field; an answer must bring it back.
    cookie: u64,
    /// Our time when it was sent, in microseconds since 1970.
    sent: i64,
}

/// Makes a question. `cookie` should be hard to guess: an answer without it is not taken. It stands
/// where our own time would, which a server need not know.
pub fn question(cookie: u64, now: i64) -> ([u8; PACKET], Question) {
    let cookie = cookie.max(1);
    let mut packet = [0; PACKET];
    // No leap warning, version 4, client.
    packet[0] = 0x23;
    packet[40..48].copy_from_slice(&cookie.to_be_bytes());
    (packet, Question { cookie, sent: now })
}

/// The microseconds by which our clock is behind (or, negative, ahead), by an answer that arrived
/// at `now`. `None` when it is not a server's sound answer to this question.
pub fn offset(question: &Question, answer: &[u8], now: i64) -> Option<i64> {
    let answer = answer.get(..PACKET)?;
    let (leap, mode, stratum) = (answer[0] >> 6, answer[0] & 7, answer[1]);
    let echoed = answer[24..32] == question.cookie.to_be_bytes();
    // Leap 3: the server itself does not know the time. Stratum 0: it asks to be left alone.
    if mode != 4 || leap == 3 || !(1..16).contains(&stratum) || !echoed {
        return None;
    }
    let (received, sent) = (time(&answer[32..40])?, time(&answer[40..48])?);
    let travel = (now - question.sent) - (sent - received);
    // A clock that was set in between, or a server that answers before it was asked.
    if !(0..10_000_000).contains(&travel) {
        return None;
    }
    Some(((received - question.sent) + (sent - now)) / 2)
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
    fn the_road_there_and_back_cancels_out() {
        let (_, question) = question(7, NOW);
        // The server is 5 s ahead, the road takes 40 ms each way, the server 10 ms.
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
        for (at, value) in [(0, 0xe4), (0, 0x23), (1, 0), (1, 16), (31, 0)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(offset(&question, &bad, NOW), None, "byte {at} = {value:#x}");
        }
        assert_eq!(offset(&question, &good[..47], NOW), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (_, question) = question(0, NOW);
            let _ = offset(&question, &bytes, NOW);
        }

        #[test]
        fn any_times_never_panic(received: u64, sent: u64) {
            let (_, question) = question(9, NOW);
            let mut packet = answer(&question, NOW, NOW);
            packet[32..40].copy_from_slice(&received.to_be_bytes());
            packet[40..48].copy_from_slice(&sent.to_be_bytes());
            let _ = offset(&question, &packet, NOW);
        }
    }
}
