//! CRC-32C (Castagnoli), as EROFS and ext4 use it: reflected polynomial 0x82F63B78, without the
//! inversions around it; both formats start from `!0` or from an earlier result.

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// Continues the raw CRC `seed` over `bytes`. Start with `!0`; the usual CRC-32C of a message is
/// `!update(!0, message)`.
pub fn update(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = seed;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mixed = crc ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        crc = TABLES[7][(mixed & 0xFF) as usize]
            ^ TABLES[6][(mixed >> 8 & 0xFF) as usize]
            ^ TABLES[5][(mixed >> 16 & 0xFF) as usize]
            ^ TABLES[4][(mixed >> 24) as usize]
            ^ TABLES[3][word[4] as usize]
            ^ TABLES[2][word[5] as usize]
            ^ TABLES[1][word[6] as usize]
            ^ TABLES[0][word[7] as usize];
    }
    for byte in words.remainder() {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ u32::from(*byte)) & 0xFF) as usize];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::update;

    /// Check value of the CRC catalogue and the zero and ones vectors of RFC 3720, B.4.
    #[test]
    fn published_vectors() {
        assert_eq!(!update(!0, b"123456789"), 0xE306_9283);
        assert_eq!(!update(!0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(!update(!0, &[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn continues_at_any_cut() {
        let message: Vec<u8> = (0..100u8).collect();
        for cut in 0..message.len() {
            let (head, tail) = message.split_at(cut);
            assert_eq!(update(update(!0, head), tail), update(!0, &message));
        }
    }
}
